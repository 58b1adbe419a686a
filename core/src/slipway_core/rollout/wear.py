"""How worn held-out data is: how often models for an endpoint were judged upon documents that it shares.

Whoever tries one model after another until one passes has chosen by these documents, and what the gate says of the one
that passed is said too well. Nobody is stopped by it: it is counted, and shown.
"""

from __future__ import annotations

from collections.abc import Iterable

from slipway_core.protocol.sketch import shares
from slipway_core.resources import conditions
from slipway_core.resources.conditions import Blocker
from slipway_core.resources.status import CountedRun, EvaluationStatus, HeldOutData, HeldOutStatus
from slipway_core.resources.training_run import TrainingRun
from slipway_core.rollout.draft import HELD_OUT_WORN, Draft
from slipway_core.rollout.observed import RunJudgements

WORN_FROM = 20
"""Judgements from which an endpoint warns. A model that stands exactly at a threshold passes a gate of the confidence
0.95 by luck once in 20 times: of 20 such models, were each measured upon documents of its own, one passes with the
chance 1 - 0.95^20 = 64 %."""
DATA, RUNS = 8, 64
"""Of so many held-out data and runs it is remembered what was counted; the oldest are forgotten first."""


def counted(was: HeldOutStatus | None, judged: Iterable[RunJudgements]) -> HeldOutStatus | None:
    """Returns what is known with these judgements: each counts once, however often it is told, and goes on to count
    when its run is gone. The same, where nothing new is told; None while nothing was ever told."""
    data = {one.sketch: one for one in was.data} if was else {}
    runs = {one.uid: one for one in was.counted} if was else {}
    # Once the list is full, a run that is not in it may have been counted and forgotten.
    oldest = min(one.since for one in was.counted) if was and len(was.counted) >= RUNS else None
    for one in judged:
        more = _more(runs.get(one.uid), one, oldest)
        if more <= 0 or not one.sketch:
            continue
        known = data.get(one.sketch)
        since = max(one.since, known.since) if known else one.since
        judgements = (known.judgements if known else 0) + more
        data[one.sketch] = HeldOutData(
            sketch=one.sketch, judgements=judgements, since=since, **(known.unknown if known else {})
        )
        before = runs.get(one.uid)
        runs[one.uid] = CountedRun(
            uid=one.uid, judgements=one.judgements, since=one.since, **(before.unknown if before else {})
        )
    if not data:
        return was
    newest = sorted(data.values(), key=lambda one: (one.since, one.sketch), reverse=True)[:DATA]
    kept = sorted(runs.values(), key=lambda one: (one.since, one.uid), reverse=True)[:RUNS]
    return HeldOutStatus(
        judgements=_upon(newest, newest[0].sketch), data=newest, counted=kept, **(was.unknown if was else {})
    )


def _more(known: CountedRun | None, one: RunJudgements, oldest: str | None) -> int:
    """Returns how many judgements of a run are not counted yet. Of one that may have been forgotten only a judgement
    that is newer than all that were forgotten is not."""
    if known is not None:
        return one.judgements - known.judgements
    return one.judgements if oldest is None else int(one.since > oldest)


def judgements_of(run: TrainingRun) -> RunJudgements | None:
    """Returns how often a run was judged, by its own status; None where it was not, or nothing is known of its data."""
    status = run.status
    step = status.step("evaluate") if status else None
    if status is None or step is None:
        return None
    return judgements_told(run.metadata.uid, status.evaluation, step.finished_at, status.held_out_sketch)


def judgements_told(
    uid: str | None, evaluation: EvaluationStatus | None, finished_at: str | None, sketch: str | None
) -> RunJudgements | None:
    """Returns the same of what a status says, however it was read.

    Args:
        uid: of the run.
        evaluation: that it names.
        finished_at: when the newest attempt to evaluate ended.
        sketch: of its held-out data.
    """
    if not uid or evaluation is None or not finished_at or not sketch:
        return None
    return RunJudgements(uid, evaluation.times_judged, finished_at, sketch)


def judgements_upon(held_out: HeldOutStatus | None, sketch: str | None) -> int:
    """Returns how many judgements are known upon data that shares documents with that of this sketch."""
    return _upon(held_out.data, sketch) if held_out is not None and sketch else 0


def _upon(data: Iterable[HeldOutData], sketch: str) -> int:
    return sum(one.judgements for one in data if shares(one.sketch, sketch))


def is_worn(judgements: int) -> bool:
    return judgements >= WORN_FROM


def show(draft: Draft) -> None:
    """Counts what was judged, and says so where it was often."""
    draft.held_out = counted(draft.held_out, draft.observed.judgements)
    judgements = draft.held_out.judgements if draft.held_out is not None else 0
    if not is_worn(judgements):
        draft.conditions = conditions.drop(draft.conditions, HELD_OUT_WORN)
        return
    told = Blocker(HELD_OUT_WORN, "JudgedOften", in_words(judgements))
    draft.condition(told.type, "True", told.reason, told.message)
    draft.events += conditions.warnings(draft.was.conditions, [told])


def in_words(judgements: int) -> str:
    """Returns what it means that data was judged upon so often."""
    return (
        f"models for this endpoint were judged {judgements} times upon data that shares documents with the newest "
        f"held-out data; from {WORN_FROM} on a pass may be the luck of many tries: take other documents for "
        "evaluation.data and evaluation.prompts"
    )
