"""By what a model was judged, as the statements about it say."""

from __future__ import annotations

from collections.abc import Sequence

from slipway_core.protocol.statement import JudgedGate, Statement
from slipway_core.resources.required_gates import PassedGate, passed_gate
from slipway_core.resources.status import Verdict
from slipway_core.rollout.observed import Judged

MANY_JUDGEMENTS = "ManyJudgements"
"""Condition of an endpoint, one of whose models has nearly as many judgements as an executor reads, or more."""


def judged_by(statements: Sequence[Statement]) -> Judged:
    """Returns by what a model was judged, of statements about it that hold, the newest last.

    Every gate that it passed counts, in whichever judgement: the model is the same. A judgement that did not pass as a
    whole says nothing, and neither do the gates of one in which the model's own code ran: that could write any figure.
    """
    passes = [one.predicate for one in statements if one.predicate.verdict is Verdict.PASS]
    if not passes:
        return Judged()
    found = [
        gate
        for judgement in passes
        if not judgement.remote_code
        for one in judgement.gates
        if (gate := _gate(one, judgement.baseline)) is not None
    ]
    newest = passes[-1]
    own_code = any(judgement.remote_code for judgement in passes)
    return Judged(newest.run.name, newest.evaluation, tuple(found), newest.run.uid, own_code)


def _gate(one: JudgedGate, baseline: str | None) -> PassedGate | None:
    return passed_gate(one.metric, one.source, one.slice, one.task, one.verdict, one.asked, baseline, one.data)
