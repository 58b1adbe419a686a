"""Whether a judge that finds nearly all answers alike can tell any apart.

One that says Tie to everything, or gives everything the same mark, never contradicts itself, and nothing that it says
varies: a figure without a doubt, of nothing. Its verdicts alone do not tell it from one that reads, and sees two models
that are as good as each other. So it is shown answers that stand at the wrong prompt, beside the right ones: the
reference of another row, or where rows have none what the model said to another prompt. Whoever tells fewer than half
of these from the right ones tells nothing apart.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

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
        right, wrong = _right(answers[row]), _wrong(answers, rows, row)
        if wrong is None:
            continue
        asked = questions.conversation(answers[row].prompt.messages, answers[row].prompt.tools)
        source = answers[row].prompt.source
        if kind == "Pair":
            found += [
                questions.pair(
                    judge, row, asked, right, wrong, of=CONTROL, repeat=0, swapped=swapped, source=source
                )
                for swapped in (False, True)
            ]  # fmt: skip
        else:
            found += [
                questions.mark(judge, row, asked, said, of=CONTROL, repeat=0, source=source) for said in (right, wrong)
            ]
    return found


def told_apart(replies: Sequence[Reply]) -> tuple[int, int]:
    """Returns how many wrong answers were told from the right ones, and how many were shown."""
    by_row: dict[int, list[Reply]] = defaultdict(list)
    for reply in replies:
        by_row[reply.question.row].append(reply)
    return sum(map(_is_told, by_row.values())), len(by_row)


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
    without = {reply.question.row: reply.trouble for reply in replies if reply.points is None}
    trouble = next(iter(without.values()), None)
    if without and told + len(without) >= _ENOUGH * shown:
        return (
            f"the judge {what}, and whether it tells any apart could not be seen: of {shown} answers to another prompt "
            f"beside the right one {len(without)} have no usable answer of it, such as {trouble}"
        )
    return (
        f"the judge tells no two different answers apart: it {what}, and told only {told} of {shown} answers to "
        f"another prompt from the right one{f' ({trouble})' if trouble else ''}. Give it clearer criteria, or ask "
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


def _wrong(answers: Sequence[Answer], rows: Sequence[int], row: int) -> str | None:
    """Returns the right answer to the next prompt where that is another one; None where all are the same."""
    own = {_right(answers[row]).strip(), *(one.strip() for one in answers[row].references)}
    place = rows.index(row)
    others = (_right(answers[one]) for one in (*rows[place + 1 :], *rows[:place]))
    return next((one for one in others if one.strip() not in own), None)


def _spread(rows: Sequence[int]) -> list[int]:
    """Returns some of the rows, from all parts of them."""
    count = min(MOST, len(rows))
    return [rows[number * len(rows) // count] for number in range(count)]
