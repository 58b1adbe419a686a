"""Whether a judge that finds nearly all answers alike can tell any apart.

One that says Tie to everything, or gives everything the same mark, never contradicts itself, and nothing that it says
varies: a figure without a doubt, of nothing. Its verdicts alone do not tell it from one that reads, and sees two models
that are as good as each other. So it is shown answers that stand at the wrong prompt, beside the right ones: the
reference of another row, or where rows have none what the model said to another prompt. Whoever tells fewer than half
of these from the right ones tells nothing apart.

Only where they are all references is that known to be the judge's fault. What the model said may be alike because the
model is bad: it says one thing to everything, or nothing to the point of any prompt, and the judge is right.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace

from slipway_core.resources.judge import Judge
from slipway_trainer.evaluation.generation import Answer
from slipway_trainer.evaluation.judge import questions
from slipway_trainer.evaluation.judge.asking import Reply
from slipway_trainer.evaluation.judge.questions import Kind, Question
from slipway_trainer.prepare.judge_questions import CONTROLS

MOST = CONTROLS // 2
"""Prompts that are shown with a wrong answer."""
DOUBTED = 0.1
"""Share of pairs that are told apart, or of marks that are not the commonest one, below which it is asked."""
CONTROL = "control"
"""Whose answers these are, in the transcript."""
_ENOUGH = 0.5
_RIGHT, _WRONG = 0, 1
TIE = 0.5


def is_doubted(apart: int, asked: int) -> bool:
    """Whether so few were told apart that nothing says it can be done."""
    return asked > 0 and apart < DOUBTED * asked


def apart_from_commonest(points: Sequence[float]) -> int:
    """Returns how many marks are not the commonest one."""
    return len(points) - max(Counter(points).values(), default=0)


def put(judge: Judge, kind: Kind, answers: Sequence[Answer], rows: Sequence[int]) -> list[Question]:
    """Returns what the judge is asked: of a pair in both orders, of a mark the right answer's and the wrong one's.

    Args:
        answers: of the candidate, to all prompts.
        rows: numbers of the prompts that it was asked about.
    """
    found: list[Question] = []
    for row in _spread(rows):
        other = _other(answers, rows, row)
        if other is None:
            continue
        right, wrong = _right(answers[row]), _right(answers[other])
        of_rows = bool(answers[row].references and answers[other].references)
        asked = questions.conversation(answers[row].prompt.messages, answers[row].prompt.tools)
        source = answers[row].prompt.source
        if kind == "Pair":
            put = [
                questions.pair(
                    judge, row, asked, right, wrong, of=CONTROL, repeat=0, swapped=swapped, source=source
                )
                for swapped in (False, True)
            ]  # fmt: skip
        else:
            put = [
                questions.mark(judge, row, asked, said, of=CONTROL, repeat=0, source=source) for said in (right, wrong)
            ]
        found += [replace(one, of_rows=of_rows) for one in put]
    return found


def told_apart(replies: Sequence[Reply]) -> tuple[int, int]:
    """Returns how many wrong answers were told from the right ones, and how many were shown."""
    by_row: dict[int, list[Reply]] = defaultdict(list)
    for reply in replies:
        by_row[reply.question.row].append(reply)
    return sum(map(_is_told, by_row.values())), len(by_row)


def are_of_rows(replies: Sequence[Reply]) -> bool:
    """Whether wrong answers were shown, and all that was shown are references of rows: a judge that does not tell these
    apart is at fault, whatever the model is."""
    return bool(replies) and all(reply.question.of_rows for reply in replies)


def blind(kind: Kind, replies: Sequence[Reply]) -> str | None:
    """Returns why nothing that the judge says counts; None where it tells wrong answers from right ones."""
    told, shown = told_apart(replies)
    if shown and told >= _ENOUGH * shown:
        return None
    what = "calls nearly all pairs of different answers ties" if kind == "Pair" else "gives nearly all answers one mark"
    if not shown:
        return (
            f"the judge {what}, and there are no answers to two prompts that differ, by which to see whether it tells "
            "any apart: it may be the model that says the same to all. Give the rows an answer to compare with, or "
            "more prompts"
        )
    trouble = next((reply.trouble for reply in replies if reply.trouble is not None), None)
    own = "" if are_of_rows(replies) else "; some of these are the model's own, which may be no better than each other"
    return (
        f"the judge tells no two different answers apart: it {what}, and told only {told} of {shown} answers to "
        f"another prompt from the right one{f' ({trouble})' if trouble else ''}{own}. Give it clearer criteria, or ask "
        "another, in a run of another name: what it answered is kept"
    )


def _is_told(replies: Sequence[Reply]) -> bool:
    points = [reply.points for reply in replies]
    if len(points) != 2 or None in points:
        return False
    if replies[0].question.kind == "Pair":
        return points[0] == points[1] != TIE
    return points[_RIGHT] != points[_WRONG]


def _right(answer: Answer) -> str:
    return next(iter(answer.references), answer.said)


def _other(answers: Sequence[Answer], rows: Sequence[int], row: int) -> int | None:
    """Returns the next prompt to which the right answer is another one; None where all are the same."""
    own = {_right(answers[row]).strip(), *(one.strip() for one in answers[row].references)}
    place = rows.index(row)
    others = (*rows[place + 1 :], *rows[:place])
    return next((one for one in others if _right(answers[one]).strip() not in own), None)


def _spread(rows: Sequence[int]) -> list[int]:
    """Returns some of the rows, from all parts of them."""
    count = min(MOST, len(rows))
    return [rows[number * len(rows) // count] for number in range(count)]
