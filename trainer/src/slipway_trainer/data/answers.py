"""The answers of a rendered conversation as tokens, and the two answers of a pair as one document."""

from __future__ import annotations

from dataclasses import dataclass

from slipway_trainer.step.errors import BadData


@dataclass(frozen=True)
class Answer:
    end: int
    """Tokens of its text up to its own end."""
    prompt: list[int]
    """What stands before it, from the end of the answer before."""
    tokens: list[int]
    turn: int | None = None
    """Which turn of its conversation it is, from 0."""


def joined(answers: list[Answer]) -> tuple[list[int], list[bool]]:
    """Returns the tokens of a text, and which of them are learned."""
    tokens: list[int] = []
    learn: list[bool] = []
    for answer in answers:
        tokens += [*answer.prompt, *answer.tokens]
        learn += [False] * len(answer.prompt) + [True] * len(answer.tokens)
    return tokens, learn


@dataclass(frozen=True)
class Answers:
    """A pair of answers, each behind its prompt: the chosen text before the rejected one."""

    tokens: list[int]
    learn: list[bool]
    """Which of them are learned."""
    chosen: int
    """Tokens of the chosen text."""


def of_pair(place: str, chosen: list[list[Answer]], rejected: list[list[Answer]]) -> Answers:
    """Returns a pair as it is learned.

    Args:
        place: of the row, for errors.
        chosen: the texts by which the chosen answer is learned, and of each its answers.
        rejected: the same of the other one.

    Raises BadData where one of both is not one text, or where they are the same.
    """
    better, worse = _one_text(f"{place}: chosen", chosen), _one_text(f"{place}: rejected", rejected)
    if better[0] == worse[0]:
        raise BadData(f"{place}: the chat template renders chosen and rejected alike. Remove the row")
    return Answers(better[0] + worse[0], better[1] + worse[1], len(better[0]))


def _one_text(place: str, texts: list[list[Answer]]) -> tuple[list[int], list[bool]]:
    """Returns the tokens of an answer behind its prompt, and which of them are learned."""
    if len(texts) != 1:
        raise BadData(
            f"{place}: the chat template renders its {len(texts)} answers apart, and a pair has one text each. Put "
            "the turns before the last answer into the prompt"
        )
    if not texts[0]:
        raise BadData(f"{place}: the chat template leaves nothing of it to learn. Give the row a prompt")
    return joined(texts[0])
