"""What one model did, row by row, and the figures that it comes to: of all rows, of a source, or of a slice."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from slipway_core.lifecycle.verdict import by_bounds, other_not_measured
from slipway_core.protocol.estimate import Estimate, Figure
from slipway_core.resources.evaluation import Gate
from slipway_core.resources.gate_metrics import CHAT_METRICS, SCORED_METRICS, span
from slipway_trainer.evaluation import answer_metrics
from slipway_trainer.evaluation.conversations import ChatScore
from slipway_trainer.evaluation.estimates import gate_estimates
from slipway_trainer.evaluation.estimates.observed import Observed
from slipway_trainer.evaluation.evaluation_data import EvaluationData
from slipway_trainer.evaluation.generation import Answer
from slipway_trainer.evaluation.opinions import Opinion, Opinions
from slipway_trainer.evaluation.perplexity import Score
from slipway_trainer.evaluation.scope import ALL, RowsOf, Scope, scopes
from slipway_trainer.evaluation.task_scores import TaskScores

CONFIDENCE = 0.95
"""Of the bounds in the report, each by itself, where no gate asks for another."""
_DIGITS = 9
"""Significant digits of a figure in the result, which has 4 KiB."""


@dataclass(frozen=True)
class Figures:
    """Of some rows."""

    metrics: dict[str, float] = field(default_factory=dict[str, float])
    missing: dict[str, str] = field(default_factory=dict[str, str])
    """Why a metric is not among them."""
    observed: dict[str, Observed] = field(default_factory=dict[str, Observed])
    """Of metrics that have bounds, what they are made of, cluster by cluster."""
    tokens: int = 0
    """Scored tokens of documents."""
    chat_tokens: int = 0
    """Scored tokens of conversations."""

    def scored(self, metric: str) -> int:
        """Returns the scored tokens that a metric rests on; 0 of one that is not scored token by token."""
        return self.chat_tokens if metric in CHAT_METRICS else self.tokens if metric in SCORED_METRICS else 0


@dataclass(frozen=True)
class Findings:
    """What one model did."""

    data: EvaluationData
    score: Score | None = None
    chat: ChatScore | None = None
    chat_trouble: str | None = None
    """Why conversations could not be scored."""
    answers: Sequence[Answer] = ()
    answer_trouble: str | None = None
    """Why prompts could not be answered."""
    asked: bool = False
    """Whether the prompts were put to the model."""
    all_json: bool = False
    """Whether json_valid is asked of every answer."""
    opinions: Opinions = field(default_factory=dict[str, Opinion])
    """What a judge model said of the answers."""
    tasks: Mapping[str, TaskScores] = field(default_factory=dict[str, TaskScores])
    """By the names of tasks, of those that it was measured on."""

    @cached_property
    def _documents(self) -> RowsOf:
        return RowsOf(self.data.documents_of)

    @cached_property
    def _conversations(self) -> RowsOf:
        return RowsOf(self.data.conversations_of)

    @cached_property
    def _prompts(self) -> RowsOf:
        return RowsOf([prompt.of for prompt in self.data.prompts] if self.asked else [])

    @cached_property
    def _observed_answers(self) -> dict[str, Observed]:
        said = {name: one.observed for name, one in self.opinions.items() if one.observed is not None}
        return answer_metrics.observed(self.answers, all_json=self.all_json) | said

    @cached_property
    def _known(self) -> dict[Scope, Figures]:
        return {}

    def scopes(self) -> list[Scope]:
        """Returns the sources and slices that its rows are of."""
        return scopes(self._documents, self._conversations, self._prompts)

    def at(self, scope: Scope = ALL) -> Figures:
        """Returns the figures of the rows of a scope."""
        if scope not in self._known:
            self._known[scope] = self._at(scope)
        return self._known[scope]

    def _at(self, scope: Scope) -> Figures:
        metrics: dict[str, float] = {}
        missing: dict[str, str] = {}
        observed: dict[str, Observed] = {}
        tokens = chat_tokens = 0
        for one, rows in ((self.score, self._documents), (self.chat, self._conversations)):
            within = rows.within(scope)
            if one is None or not within.any():
                continue
            own = one.of(within)
            made, absent = own.figures
            metrics, missing = metrics | made, missing | absent
            # Those of the rows of the scope, which stand in their order.
            clusters = rows.clusters[within]
            every = within[within]
            observed |= {name: part.clustered(every, clusters) for name, part in own.observed.items() if name in made}
            if isinstance(own, ChatScore):
                chat_tokens = own.finite_tokens
            else:
                tokens = own.tokens - own.not_finite
        if self.chat_trouble is not None and self._conversations.within(scope).any():
            missing |= dict.fromkeys(CHAT_METRICS, self.chat_trouble)
        within = self._prompts.within(scope)
        if within.any():
            made, absent, parts = self._of_answers(within)
            metrics, missing, observed = metrics | made, missing | absent, observed | parts
        return Figures(metrics, missing, observed, tokens, chat_tokens)

    def _of_answers(self, within: Any) -> tuple[dict[str, float], dict[str, str], dict[str, Observed]]:
        unsaid = {name: why for name, one in self.opinions.items() if (why := one.missing(within)) is not None}
        if self.answer_trouble is not None:
            return {}, dict.fromkeys(answer_metrics.METRICS, self.answer_trouble) | unsaid, {}
        made, absent = answer_metrics.figures([one for one, own in zip(self.answers, within, strict=True) if own])
        clusters = self._prompts.clusters
        parts = {name: one.clustered(within, clusters) for name, one in self._observed_answers.items()}
        absent |= unsaid
        told = {name: one for name, one in parts.items() if one.told.any() and name not in unsaid}
        values = {name: one.value for name, one in told.items() if name not in made and name not in absent}
        return made | values, absent, told

    def judge_silent(self, gates: Sequence[Gate], *, nobody_there: bool) -> bool | None:
        """Returns True where gates on a judge's word lack figures, and each since the judge's server was never there,
        or what the model is compared with was not measured; None else."""
        lacking = [
            (self.opinions[gate.metric], scope)
            for gate in gates
            if gate.task is None and gate.metric in self.opinions
            if gate.metric not in self.at(scope := Scope(gate.source, gate.slice)).metrics
        ]
        silent = [one.silent(self._prompts.within(scope), nobody_there=nobody_there) for one, scope in lacking]
        return (bool(silent) and all(silent)) or None

    def of_task(self, name: str) -> Figures:
        """Returns the figures of a task."""
        if name not in self.tasks:
            return Figures()
        metrics, missing = self.tasks[name].figures
        return Figures(metrics, missing, self.tasks[name].observed)

    def samples(self) -> list[dict[str, Any]]:
        """Returns each prompt with its answer and what that scored, as it is written to samples.jsonl."""
        rows = [answer.row for answer in self.answers]
        for name, one in self._observed_answers.items():
            for place in one.told.nonzero()[0]:
                score = one.sums[place] / one.sizes[place]
                if one.figure is not None and one.parts is not None:
                    score = one.figure(one.parts[place])[0]
                rows[place].setdefault("scores", {})[name] = round(float(score), 6)
        return rows

    def report(self) -> list[dict[str, Any]]:
        """Returns the figures of each source and slice with their bounds, for the report."""
        return [
            {
                "source": scope.source,
                "slice": scope.slice,
                "metrics": self.with_bounds(scope),
                "missing": self.at(scope).missing,
            }
            for scope in self.scopes()
        ]

    def task_reports(self) -> list[dict[str, Any]]:
        """Returns what the report says of each task."""
        return [one.to_document(_with_bounds(self.of_task(name), name)) for name, one in self.tasks.items()]

    def with_bounds(self, scope: Scope = ALL) -> dict[str, dict[str, float | int | None]]:
        """Returns each metric of a scope with its bounds, each of which holds with `CONFIDENCE`, by name."""
        return _with_bounds(self.at(scope))


@dataclass(frozen=True)
class Other:
    """A model that gates on a regression compare with."""

    findings: Findings | None
    """None where it was not measured."""
    trouble: str | None
    """Why not, where there is one to compare with."""


def _with_bounds(figures: Figures, task: str | None = None) -> dict[str, dict[str, float | int | None]]:
    found: dict[str, dict[str, float | int | None]] = {}
    for name, value in figures.metrics.items():
        own = figures.observed.get(name)
        known = gate_estimates.estimate(own, CONFIDENCE) if own is not None else None
        told = known.within(*span(name, task))._asdict() if known is not None else {}
        # The figure itself has all its digits.
        found[name] = {**told, "value": value}
    return found


def of_gates(
    gates: Sequence[Gate], mine: Findings, *, live: Other, base: Other
) -> tuple[list[Figure], list[Estimate | None], list[str]]:
    """Returns the figure and the estimate of each gate, in their order, and the reasons that figures name.

    Args:
        live: the version that is live.
        base: the model that the run started from.
    """
    reasons: list[str] = []

    def said(reason: str) -> int:
        if reason not in reasons:
            reasons.append(reason)
        return reasons.index(reason)

    figures: list[Figure] = []
    estimates: list[Estimate | None] = []
    for gate in gates:
        scope = Scope(gate.source, gate.slice)
        own = mine.of_task(gate.task) if gate.task is not None else mine.at(scope)
        other = base if gate.against_base else live
        compared = other.findings if gate.max_regression is not None else None
        theirs = None
        if compared is not None:
            theirs = compared.of_task(gate.task) if gate.task is not None else compared.at(scope)
        before, after = own.observed.get(gate.metric), theirs.observed.get(gate.metric) if theirs else None
        estimates.append(gate_estimates.of_gate(gate, before, after))
        value = _rounded(own.metrics.get(gate.metric))
        was = _rounded(theirs.metrics.get(gate.metric)) if theirs else None
        reason = None
        if value is None:
            reason = said(own.missing.get(gate.metric, _nothing(gate, scope)))
        elif gate.max_regression is not None and was is None and (theirs is not None or other.trouble is not None):
            absent = theirs.missing.get(gate.metric) if theirs else None
            reason = said(other.trouble or absent or other_not_measured(gate))
        elif by_bounds(gate) and estimates[-1] is None:
            reason = said(_no_bounds(gate, known=before is not None))
        figures.append(Figure(value, was, own.scored(gate.metric) if gate.task is None else 0, reason))
    return figures, estimates, reasons


def _nothing(gate: Gate, scope: Scope) -> str:
    if gate.task is not None:
        return f"task {gate.task} was not measured"
    return "no row of this source or slice tells it" if scope != ALL else f"no row tells {gate.metric}"


def _no_bounds(gate: Gate, *, known: bool) -> str:
    """Returns why a figure that was measured has no bounds.

    Args:
        known: whether it is known what it is made of.
    """
    if gate.task is not None and not known:
        return (
            f"it has no bounds: what documents of task {gate.task} score is not between 0 and 1. Take the figure as it "
            "is with confidence: 0.5, or another metric"
        )
    return "no bounds can be told of it: they are not finite, or no row tells it of both models"


def _rounded(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(f"{value:.{_DIGITS}g}")
