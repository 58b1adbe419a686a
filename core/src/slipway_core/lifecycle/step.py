"""The life of a run, as one pure function: what is recorded and what is observed in, what to do now out.

`step` reads top to bottom in policy order: retry → suspend → prepare → train stages → export → evaluate → judge →
publish → promote. An executor calls it whenever the world may have changed, applies the decision, and writes the status
once. Calling it again with the same world decides the same, and an executor may die between any two of its actions:
attempts are numbered, so one that exists already is adopted, never made twice.
"""

from __future__ import annotations

from datetime import datetime

from slipway_core.lifecycle.attempts import advance, suspend
from slipway_core.lifecycle.decision import Decision
from slipway_core.lifecycle.draft import Draft, Policy
from slipway_core.lifecycle.evaluation import must_judge_again, stopped_by_the_gate, waits_to_be_judged
from slipway_core.lifecycle.observed import Observed
from slipway_core.lifecycle.promotion import promote
from slipway_core.lifecycle.publication import publish
from slipway_core.lifecycle.retry import honour_retry
from slipway_core.plan import Plan
from slipway_core.resources.training_run import TrainingRun


def step(run: TrainingRun, plan: Plan, observed: Observed, now: datetime, policy: Policy | None = None) -> Decision:
    """Decides what a run needs now.

    Args:
        run: the resource with its recorded status.
        plan: what runs; resolved once, it does not change with the resource.
        observed: the whole world of the run.
        now: the time, aware of its zone.
        policy: how patient to be.
    """
    draft = Draft.of(run, plan, observed, now, policy or Policy())
    draft.show_blockers()
    over = draft.was.phase.finished
    if not (run.spec.suspend and over):
        honour_retry(draft)  # What is over begins nothing before it may go on.
    if run.spec.suspend and not over:
        return suspend(draft)

    for name in plan.judged_steps:
        if phase := advance(draft, name):
            return draft.decide(phase)

    if must_judge_again(draft):
        # What was found damaged is made anew first.
        for name in ("prepare", "export", "evaluate"):
            if phase := advance(draft, name):
                return draft.decide(phase)
    publish(draft)  # Beside all that follows, and in the way of none of it.
    if phase := stopped_by_the_gate(draft) or waits_to_be_judged(draft):
        return draft.decide(phase)
    return draft.decide(promote(draft))
