"""From what a judge said to a figure: prompt by prompt, with how far it agrees with itself.

A judge may prefer whatever stands first (Zheng et al. 2023, arXiv:2306.05685, section 3.3), or say another thing each
time. So a pair is put in both orders, and counts as a win or a loss where both say so, and else as a tie. A judge that
contradicts itself too often would make all pairs ties, and the candidate as good as whatever it is beside: the figure
is none then.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from slipway_core.resources.judge import Judge
from slipway_trainer.evaluation.estimates.observed import Observed
from slipway_trainer.evaluation.judge.asking import Reply
from slipway_trainer.evaluation.judge.controls import TIE
from slipway_trainer.evaluation.opinions import Agreement, Opinion

ORDERS, REPEATS = "both orders of a pair", "repeats of a question"
_ORDERS = 2


@dataclass(frozen=True)
class Scored:
    """A metric of a judge."""

    opinion: Opinion
    pairs: int = 0
    """That were asked about in both orders."""
    contradicted: int = 0
    """Of these, those that were ties since the two orders contradict each other."""
    told_apart: int = 0
    """Of these, those of which both orders prefer the same answer."""
    same: int = 0
    """Prompts with two answers that are the same: a tie, of which nobody is asked."""

    def agreement(self, of: str) -> float | None:
        """Returns how far the judge agrees with itself in one respect, over all prompts; None where nothing tells."""
        return next((one.share() for one in self.opinion.agreements if one.of == of), None)


def wins(judge: Judge, replies: Sequence[Reply], prompts: int, same: Sequence[int]) -> Scored:
    """Returns win_rate.

    Args:
        replies: to the pairs, in both orders.
        prompts: of the evaluation.
        same: numbers of the prompts with two answers that are the same.
    """
    points: dict[int, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    unanswered: dict[int, str] = {}
    for reply in replies:
        if reply.points is None:
            unanswered.setdefault(reply.question.row, _why(reply))
        else:
            points[reply.question.row][reply.question.repeat].append(reply.points)
    outcomes: dict[int, list[float]] = {row: [TIE] for row in same}
    alike, asked, apart = np.zeros(prompts), np.zeros(prompts), 0
    for row, repeats in points.items():
        both = [own for own in repeats.values() if len(own) == _ORDERS]
        agreed = [own[0] == own[1] for own in both]
        outcomes[row] = [own[0] if one else TIE for own, one in zip(both, agreed, strict=True)]
        alike[row], asked[row] = sum(agreed), len(agreed)
        apart += sum(one and own[0] != TIE for own, one in zip(both, agreed, strict=True))
    agreements = (Agreement(ORDERS, alike, asked), _of_repeats(outcomes, prompts))
    opinion = Opinion(_observed(outcomes, unanswered, prompts), unanswered, None, agreements, judge.min_agreement)
    return Scored(opinion, int(asked.sum()), int((asked - alike).sum()), apart, len(same))


def marks(judge: Judge, replies: Sequence[Reply], prompts: int) -> Scored:
    """Returns judge_score of one model's answers.

    Args:
        replies: to the questions for a mark.
        prompts: of the evaluation.
    """
    found: dict[int, list[float]] = defaultdict(list)
    unanswered: dict[int, str] = {}
    for reply in replies:
        if reply.points is None:
            unanswered.setdefault(reply.question.row, _why(reply))
        else:
            found[reply.question.row].append(reply.points)
    agreements = (_of_repeats(found, prompts),)
    return Scored(Opinion(_observed(found, unanswered, prompts), unanswered, None, agreements, judge.min_agreement))


def _of_repeats(points: Mapping[int, Sequence[float]], prompts: int) -> Agreement:
    """Returns 1 less the difference between two repeats, of all pairs of them: of a judge that says 0 and then 1, 0."""
    sums, sizes = np.zeros(prompts), np.zeros(prompts)
    for row, own in points.items():
        alike = [1 - abs(a - b) for a, b in combinations(own, 2)]
        sums[row], sizes[row] = sum(alike), len(alike)
    return Agreement(REPEATS, sums, sizes)


def _observed(points: Mapping[int, Sequence[float]], unanswered: Mapping[int, str], prompts: int) -> Observed:
    """Returns what was said of each prompt as one piece, however often it was asked."""
    sums, sizes = np.zeros(prompts), np.zeros(prompts)
    for row, own in points.items():
        if own and row not in unanswered:
            sums[row], sizes[row] = sum(own) / len(own), 1.0
    return Observed("Share", sums, sizes)


def _why(reply: Reply) -> str:
    place = f"{reply.question.source}: " if reply.question.source else ""
    return f"{place}{reply.trouble}"
