"""What gates ask of a judge: the questions, put, and what they come to for each model."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from slipway_core.lifecycle.verdict import BASE, BASELINE
from slipway_core.plan import Plan
from slipway_core.protocol.workspace import Workspace
from slipway_core.resources.api import seconds
from slipway_core.resources.gate_metrics import JUDGE_SCORE, WIN_RATE
from slipway_core.resources.judge import Judge
from slipway_core.resources.status import JudgeStatus
from slipway_trainer.evaluation import measure
from slipway_trainer.evaluation.base_model import MeasuredBase
from slipway_trainer.evaluation.findings import Findings
from slipway_trainer.evaluation.generation import Answer
from slipway_trainer.evaluation.judge import asking, controls, questions, scores, transcript
from slipway_trainer.evaluation.judge.api import Patience
from slipway_trainer.evaluation.judge.asking import Asked, Reply
from slipway_trainer.evaluation.judge.kept_replies import KeptReplies
from slipway_trainer.evaluation.judge.questions import Kind, Question
from slipway_trainer.evaluation.judge.scores import Scored
from slipway_trainer.evaluation.measure import Measured
from slipway_trainer.evaluation.opinions import Opinion
from slipway_trainer.evaluation.scope import RowsOf, Scope
from slipway_trainer.step.progress import Reporter

CANDIDATE = "candidate"
DEFINITIONS = {
    WIN_RATE: "of the prompts that gates on it count: 1 where the judge prefers the model's answer in both orders, 0 "
    "where it prefers the other's in both, and 0.5 else; the mean over the repeats, then over the prompts",
    JUDGE_SCORE: "the judge's mark of each answer, from 0 for the worst of the scale to 1 for the best; the mean over "
    "the repeats, then over the prompts that gates on it count",
}
_MOST_TROUBLES = 8
_DIGITS = 4
"""Of the agreement, in the run's record."""


@dataclass(frozen=True)
class Judged:
    """Each model with what the judge said of it."""

    candidate: Measured
    live: Measured | None
    base: MeasuredBase
    report: dict[str, Any] | None = None
    transcript: list[str] = field(default_factory=list[str])
    agreement: JudgeStatus | None = None
    """None where no judge was asked."""


def judge(
    plan: Plan,
    workspace: Workspace,
    candidate: Measured,
    live: Measured | None,
    base: MeasuredBase,
    *,
    trouble: dict[str, str],
    key: str | None,
    reporter: Reporter,
    check: Callable[[], None] = lambda: None,
    patience: Patience | None = None,
) -> Judged:
    """Asks the judge of the plan, where there is one, for what the gates name and nothing else.

    Args:
        trouble: why the live version was not measured, by `BASELINE`, where one is live and was not.
        key: the judge's.
        check: called between two questions, with the fence's right to end it: an older attempt pays for no more.
    """

    def advance(done: int, total: int) -> None:
        check()
        reporter.show(f"judge: {done:,} of {total:,} questions")

    settings = plan.evaluation.judge
    if settings is None:
        return Judged(candidate, live, base)
    started = time.monotonic()
    others = {
        BASELINE: _Other(
            live.findings if live else None, trouble.get(BASELINE) or "no version is live to compare with"
        ),
        BASE: _Other(base.findings, base.missing.get(BASE) or "the base model was not measured"),
    }
    wanted = _Wanted(plan, settings, candidate.findings, others)
    kept = KeptReplies.open(workspace.fetched_verdicts, key, plan.digest)
    reporter.say(f"judge: asking {settings.model} at {settings.url} {len(wanted.questions):,} questions")

    def put(judge: Judge, asked: Sequence[Question]) -> Asked:
        return asking.ask(judge, key, asked, kept, advance=advance, patience=patience)

    try:
        asked = put(settings, wanted.questions)
        found = wanted.scored(asked.replies)
        shown = wanted.controls(asked.replies, found)
        again = put(_with_what_is_left(settings, started), [one for own in shown.values() for one in own])
    finally:
        kept.close()
    controlled: dict[Kind, list[Reply]] = {
        kind: [reply for reply in again.replies if reply.question.kind == kind] for kind in shown
    }
    found = {name: _doubted(one, _kind(name[0]), controlled) for name, one in found.items()}
    asked = asked.joined(again)
    for line in _said(asked, found):
        reporter.log(line)
    if lacking := _unusable(asked):
        reporter.add_warning(lacking)
    said = transcript.lines(asked.replies)
    report = {
        **_settings(settings, wanted.questions),
        "definitions": DEFINITIONS,
        **_told(asked),
        "seconds": round(time.monotonic() - started, 3),
        "controls": {kind: _control(replies) for kind, replies in controlled.items()},
        "agreement": {f"{metric} of {of}": _agreement(one) for (metric, of), one in found.items()},
        "transcript": {"file": workspace.judge(0).name, "lines": len(said), "left_out": len(asked.replies) - len(said)},
    }
    by_model = {
        of: {metric: one.opinion for (metric, whose), one in found.items() if whose == of}
        for of in (CANDIDATE, BASELINE, BASE)
    }
    told = _with(candidate, by_model[CANDIDATE])
    silent = told.findings.judge_silent(plan.evaluation.gates, nobody_there=asked.nobody_there)
    return Judged(
        told,
        _with(live, by_model[BASELINE]) if live is not None and by_model[BASELINE] else live,
        _base_with(base, by_model[BASE]) if base.findings is not None and by_model[BASE] else base,
        report,
        said,
        _agreement_of(found.values()).model_copy(update={"silent": silent}),
    )


@dataclass(frozen=True)
class _Other:
    """A model that the candidate is compared with."""

    findings: Findings | None
    trouble: str
    """Why it has none."""


@dataclass
class _Wanted:
    """What the gates of a plan ask of a judge."""

    plan: Plan
    judge: Judge
    mine: Findings
    others: dict[str, _Other]
    questions: list[Question] = field(default_factory=list[Question])
    same: list[int] = field(default_factory=list[int])
    """Prompts with two answers that are the same."""
    lacking: dict[int, str] = field(default_factory=dict[int, str])
    """Prompts of which win_rate cannot be asked, and why."""
    nothing: dict[tuple[str, str], str] = field(default_factory=dict[tuple[str, str], str])
    """Metrics, and whose, of which nothing can be asked, and why."""
    no_answers: set[tuple[str, str]] = field(default_factory=set[tuple[str, str]])
    """Of these, those of which the model that is judged has no answers."""
    _put: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    """Metrics, and whose, that are asked for."""

    def __post_init__(self) -> None:
        gates = self.plan.evaluation.gates
        if any(gate.metric == WIN_RATE for gate in gates):
            self._pairs()
        if any(gate.metric == JUDGE_SCORE for gate in gates):
            self._marks(CANDIDATE, self.mine, None)
            for name, other in (("Live", BASELINE), ("Base", BASE)):
                if any(g.metric == JUDGE_SCORE and self.plan.evaluation.compared_with(g) == name for g in gates):
                    self._marks(other, self.others[other].findings, name)

    def scored(self, replies: Sequence[Reply]) -> dict[tuple[str, str], Scored]:
        """Returns each metric of each model that was asked for."""
        found: dict[tuple[str, str], Scored] = {}
        prompts = len(self.mine.data.prompts)
        for metric, of in self._put:
            if (why := self.nothing.get((metric, of))) is not None:
                found[metric, of] = Scored(Opinion(nothing=why, no_answers=(metric, of) in self.no_answers))
            elif metric == WIN_RATE:
                pairs = [reply for reply in replies if reply.question.kind == "Pair"]
                won = scores.wins(self.judge, pairs, prompts, self.same)
                opinion = replace(won.opinion, unanswered={**self.lacking, **won.opinion.unanswered})
                found[metric, of] = replace(won, opinion=opinion)
            else:
                marks = [reply for reply in replies if reply.question.kind == "Mark"]
                scored = scores.marks(self.judge, [one for one in marks if one.question.of == of], prompts)
                if of != CANDIDATE:
                    beside = np.zeros(prompts, bool)
                    beside[[one.question.row for one in marks if one.question.of == CANDIDATE]] = True
                    scored = replace(scored, opinion=replace(scored.opinion, beside=beside))
                found[metric, of] = scored
        return _with_contradictions(found)

    def controls(self, replies: Sequence[Reply], found: Mapping[tuple[str, str], Scored]) -> dict[Kind, list[Question]]:
        """Returns what is asked of a judge that tells hardly any two answers apart, by kind; nothing of one that does,
        or whose figure passes nothing."""
        doubted: list[Kind] = []
        pairs = found.get((WIN_RATE, CANDIDATE))
        if pairs is not None and controls.is_doubted(pairs.told_apart, pairs.pairs):
            agreed = pairs.agreement(scores.ORDERS)
            if agreed is not None and agreed >= self.judge.min_agreement:
                doubted.append("Pair")
        points = [one.points for one in replies if one.question.kind == "Mark" and one.points is not None]
        worthless = any(one.opinion.worthless for one in found.values())
        if (
            not worthless
            and controls.is_doubted(controls.apart_from_commonest(points), len(points))
            and not self._fails(points)
        ):
            doubted.append("Mark")
        rows: dict[Kind, list[int]] = {
            kind: sorted({one.question.row for one in replies if one.question.kind == kind}) for kind in doubted
        }
        return {kind: controls.put(self.judge, kind, self.mine.answers, own) for kind, own in rows.items()}

    def _fails(self, points: Sequence[float]) -> bool:
        """Whether marks are the worst, and the gates ask for good ones: whatever they are worth, nothing passes."""
        gates = [one for one in self.plan.evaluation.gates if one.metric == JUDGE_SCORE]
        return max(points) == 0 and all(one.min is not None and one.min > 0 for one in gates)

    def _pairs(self) -> None:
        """Puts each answer beside what it is compared with, in both orders."""
        self._put.append((WIN_RATE, CANDIDATE))
        of = {"Live": BASELINE, "Base": BASE}.get(str(self.judge.compare))
        theirs = self.others[of] if of is not None else _Other(self.mine, "")
        if theirs.findings is None:
            self.nothing[WIN_RATE, CANDIDATE] = theirs.trouble
            return
        if (why := _unanswered(self.mine)) or (why := _unanswered(theirs.findings)):
            self.nothing[WIN_RATE, CANDIDATE] = why
            self.no_answers |= {(WIN_RATE, CANDIDATE)} if _unanswered(self.mine) else set()
            return
        for row in self._rows(WIN_RATE, None):
            mine = self.mine.answers[row]
            other = theirs.findings.answers[row].said if of is not None else next(iter(mine.references), None)
            if other is None:
                self.lacking[row] = (
                    f"{mine.prompt.source or f'prompt {row + 1}'}: the row has no answer to compare with"
                )
            elif other.strip() == mine.said.strip():
                self.same.append(row)
            else:
                self.questions += [
                    questions.pair(
                        self.judge, row, _asked(mine), mine.said, other,
                        of=of or "reference", repeat=repeat, swapped=swapped, source=mine.prompt.source,
                    )
                    for repeat in range(self.judge.repeats)
                    for swapped in (False, True)
                ]  # fmt: skip

    def _marks(self, of: str, findings: Findings | None, name: str | None) -> None:
        """Asks for a mark of each answer of one model."""
        self._put.append((JUDGE_SCORE, of))
        if findings is None or (why := _unanswered(findings)):
            self.nothing[JUDGE_SCORE, of] = self.others[of].trouble if findings is None else str(why)
            self.no_answers |= {(JUDGE_SCORE, of)} if of == CANDIDATE else set()
            return
        for row in self._rows(JUDGE_SCORE, name):
            own = findings.answers[row]
            self.questions += [
                questions.mark(self.judge, row, _asked(own), own.said, of=of, repeat=repeat, source=own.prompt.source)
                for repeat in range(self.judge.repeats)
            ]

    def _rows(self, metric: str, name: str | None) -> list[int]:
        """Returns the prompts that gates on a metric count, of those without recall.

        Args:
            name: what the gates compare with; all of them when None.
        """
        evaluation, prompts = self.plan.evaluation, self.mine.data.prompts
        rows = RowsOf([prompt.of for prompt in prompts])
        counted: set[int] = set()
        for gate in evaluation.gates:
            if gate.metric == metric and name in (None, evaluation.compared_with(gate)):
                counted |= {int(row) for row in rows.within(Scope(gate.source, gate.slice)).nonzero()[0]}
        return [row for row in sorted(counted) if not prompts[row].recall]


def _unanswered(findings: Findings) -> str | None:
    """Returns why a model has no answers to the prompts; None where it has."""
    return findings.at().missing.get("empty_rate")


def _asked(answer: Answer) -> dict[str, Any]:
    return questions.conversation(answer.prompt.messages, answer.prompt.tools)


def _with(measured: Measured, opinions: dict[str, Opinion]) -> Measured:
    """Returns what was measured of a model, with what a judge said of it among its figures."""
    findings = replace(measured.findings, opinions=opinions)
    figures, report = findings.at(), {**measured.report, **measure.told_of(findings)}
    if "generation" in report:
        shown = findings.samples()[: measure.SAMPLES_IN_REPORT]
        report["generation"] = {**report["generation"], "samples": shown}
    return replace(measured, metrics=figures.metrics, missing=figures.missing, report=report, findings=findings)


def _base_with(base: MeasuredBase, opinions: dict[str, Opinion]) -> MeasuredBase:
    assert base.findings is not None
    findings = replace(base.findings, opinions=opinions)
    own = {name: value for name, value in findings.at().metrics.items() if name in opinions}
    report = {**base.report, **measure.told_of(findings)}
    return replace(base, metrics=base.metrics | own, findings=findings, report=report)


def _settings(judge: Judge, put: Sequence[Question]) -> dict[str, Any]:
    kinds: list[Kind] = list(dict.fromkeys(one.kind for one in put))
    return {
        "url": judge.url,
        "model": judge.model,
        "criteria": judge.criteria,
        "scale": judge.scale,
        "compare": judge.compare,
        "repeats": judge.repeats,
        "min_agreement": judge.min_agreement,
        "told": {kind: questions.system(kind, judge) for kind in kinds},
    }


def _told(asked: Asked) -> dict[str, Any]:
    """Returns what the report says of the round of questions."""
    said = [reply.completion for reply in asked.replies if reply.completion is not None]
    troubles = dict.fromkeys(reply.trouble for reply in asked.replies if reply.trouble is not None)
    return {
        "questions": len(asked.replies),
        "requests": asked.requests,
        "kept": sum(reply.kept for reply in asked.replies),
        "unanswered": sum(reply.points is None for reply in asked.replies),
        "troubles": list(troubles)[:_MOST_TROUBLES],
        "refused_fields": sorted(asked.without),
        "answered_by": sorted({one.model for one in said if one.model}),
        "fingerprints": sorted({one.fingerprint for one in said if one.fingerprint})[:_MOST_TROUBLES],
        "tokens": {"sent": sum(one.tokens[0] for one in said), "replied": sum(one.tokens[1] for one in said)},
    }


def _kind(metric: str) -> Kind:
    return "Pair" if metric == WIN_RATE else "Mark"


def _with_what_is_left(settings: Judge, started: float) -> Judge:
    """Returns a judge with what is left of the time in which it is asked."""
    left = max(1, int(seconds(settings.timeout) - (time.monotonic() - started)))
    return settings.model_copy(update={"timeout": f"{left}s"})


def _doubted(one: Scored, kind: Kind, controlled: Mapping[Kind, Sequence[Reply]]) -> Scored:
    """Returns a metric of which there is no figure where its judge was asked whether it tells answers apart, and does
    not."""
    if kind not in controlled:
        return one
    return replace(one, opinion=replace(one.opinion, worthless=controls.blind(kind, controlled[kind])))


def _with_contradictions(found: Mapping[tuple[str, str], Scored]) -> dict[tuple[str, str], Scored]:
    """Returns the metrics, of which marks are worth nothing where the judge that gave them contradicts itself in pairs,
    of all prompts or of those that a gate counts: of a question that is put once, nothing else tells whether it means
    what it says."""
    pairs = found.get((WIN_RATE, CANDIDATE))
    if pairs is None:
        return dict(found)
    why = pairs.opinion.contradiction()
    told = None if why is None else f"its marks are worth no more than its win_rate, of which {why}"
    return {
        name: replace(one, opinion=replace(one.opinion, of_pairs=pairs.opinion.agreements, worthless=told))
        if name[0] == JUDGE_SCORE
        else one
        for name, one in found.items()
    }


def _control(replies: Sequence[Reply]) -> dict[str, int]:
    told, shown = controls.told_apart(replies)
    return {"shown": shown, "told_apart": told}


def _agreement_of(found: Collection[Scored]) -> JudgeStatus:
    """Returns how far the judge agreed with itself, of several metrics the least."""
    told = {
        of: [share for one in found if (share := one.agreement(of)) is not None]
        for of in (scores.ORDERS, scores.REPEATS)
    }
    orders, repeats = (round(min(own), _DIGITS) if own else None for own in told.values())
    return JudgeStatus(orders=orders, repeats=repeats)


def _agreement(one: Scored) -> dict[str, Any]:
    return {
        "orders": one.agreement(scores.ORDERS),
        "repeats": one.agreement(scores.REPEATS),
        "pairs": one.pairs,
        "told_apart": one.told_apart,
        "contradicted": one.contradicted,
        "same_answers": one.same,
    }


def _unusable(asked: Asked) -> str | None:
    """Returns how many questions have no reply that can be used, and why the first of them; None where all have one."""
    without = [reply for reply in asked.replies if reply.points is None]
    if not without:
        return None
    why = next((f": {reply.trouble}" for reply in without if reply.trouble), "")
    return f"judge: {len(without):,} of {len(asked.replies):,} questions got no reply that can be used{why}"


def _said(asked: Asked, found: dict[tuple[str, str], Scored]) -> list[str]:
    """Returns what the log says."""
    kept = sum(reply.kept for reply in asked.replies)
    lines = [
        f"judge: {len(asked.replies):,} questions, {asked.requests:,} requests"
        + (f", {kept:,} answered in an earlier attempt" if kept else "")
    ]
    if asked.without:
        lines.append(f"judge: the server refuses {', '.join(sorted(asked.without))}, so it was asked without")
    for (metric, of), one in found.items():
        told = {of: one.agreement(of) for of in (scores.ORDERS, scores.REPEATS)}
        if shares := [f"of {of} {share:.2f}" for of, share in told.items() if share is not None]:
            lines.append(f"judge: {metric} of {of}: agreement {', '.join(shares)}")
        if (why := one.opinion.nothing or one.opinion.worthless) is not None:
            lines.append(f"judge: {metric} of {of}: no figure: {why}")
    return lines
