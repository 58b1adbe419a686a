"""From what a judge said to a figure: prompt by prompt, with how far it agrees with itself.

A judge may prefer whatever stands first (Zheng et al. 2023, arXiv:2306.05685, section 3.3), or say another thing each
time. So a pair is put in both orders, and counts as a win or a loss where both say so, and else as a tie. A judge that
contradicts itself too often would make all pairs ties, and the candidate as good as whatever it is beside: the figure
is none then.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np

from slipway_core.resources.judge import Judge
from slipway_trainer.evaluation.estimates.observed import Observed
from slipway_trainer.evaluation.judge.asking import Reply
from slipway_trainer.evaluation.opinions import Opinion

TIE = 0.5


@dataclass(frozen=True)
class Agreement:
    """How far a judge says the same of the same."""

    orders: float | None = None
    """Share of the pairs of which both orders came out alike; None where none was asked about."""
    repeats: float | None = None
    """1 less the mean difference between two repeats of a question, each from 0 to 1; None without repeats."""
    pairs: int = 0
    """That were asked about in both orders."""

    def trouble(self, least: float) -> str | None:
        """Returns why the judge is not believed; None where it agrees with itself enough.

        Args:
            least: evaluation.judge.minAgreement.
        """
        what = {"both orders of a pair": self.orders, "repeats of a question": self.repeats}
        for name, share in what.items():
            if share is not None and share < least:
                return (
                    f"the judge contradicts itself: the agreement of {name} is {share:.2f}, and "
                    f"evaluation.judge.minAgreement asks for {least:g}. Give it clearer criteria, or ask another judge"
                )
        return None


@dataclass(frozen=True)
class Scored:
    """A metric of a judge."""

    opinion: Opinion
    agreement: Agreement = field(default_factory=Agreement)
    same: int = 0
    """Prompts with two answers that are the same: a tie, of which nobody is asked."""
    contradicted: int = 0
    """Pairs that were ties since the two orders contradict each other."""


def wins(judge: Judge, replies: Sequence[Reply], prompts: int, same: Sequence[int]) -> Scored:
    """Returns win_rate.

    Args:
        replies: to the pairs, in both orders.
        prompts: of the evaluation.
        same: numbers of the prompts with two answers that are the same.
    """
    orders: dict[tuple[int, int], list[float]] = defaultdict(list)
    unanswered: dict[int, str] = {}
    for reply in replies:
        if reply.points is None:
            unanswered.setdefault(reply.question.row, _why(reply))
        else:
            orders[reply.question.row, reply.question.repeat].append(reply.points)
    outcomes: dict[int, list[float]] = defaultdict(list)
    alike = contradicted = 0
    for (row, _), points in orders.items():
        if len(points) < 2:
            continue
        agreed = points[0] == points[1]
        alike += agreed
        contradicted += not agreed
        outcomes[row].append(points[0] if agreed else TIE)
    pairs = alike + contradicted
    agreement = Agreement(alike / pairs if pairs else None, _of_repeats(outcomes), pairs)
    outcomes |= {row: [TIE] for row in same}
    opinion = _opinion(outcomes, unanswered, prompts, agreement.trouble(judge.min_agreement))
    return Scored(opinion, agreement, len(same), contradicted)


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
    agreement = Agreement(repeats=_of_repeats(found))
    return Scored(_opinion(found, unanswered, prompts, agreement.trouble(judge.min_agreement)), agreement)


def _of_repeats(points: dict[int, list[float]]) -> float | None:
    """Returns 1 less the mean difference between two repeats: of a judge that says 0 and then 1, 0."""
    apart = [abs(a - b) for own in points.values() for a, b in combinations(own, 2)]
    return 1 - sum(apart) / len(apart) if apart else None


def _opinion(points: dict[int, list[float]], unanswered: dict[int, str], prompts: int, trouble: str | None) -> Opinion:
    """Returns what was said of each prompt as one piece, however often it was asked."""
    sums, sizes = np.zeros(prompts), np.zeros(prompts)
    for row, own in points.items():
        if row not in unanswered:
            sums[row], sizes[row] = sum(own) / len(own), 1.0
    return Opinion(Observed("Share", sums, sizes), unanswered, trouble)


def _why(reply: Reply) -> str:
    place = f"{reply.question.source}: " if reply.question.source else ""
    return f"{place}{reply.trouble}"
