"""The life of an endpoint, as one pure function: which version runs, which one has the traffic, which one ends.

Invariant A: a version starts only with a passing verdict for its digest, or with `acceptUnjudged`. It gets traffic once
its server has found itself to be the model that was judged; where that cannot be known, with `acceptUnjudged` alone.
An endpoint may ask more of a new version (`promotion`).
Invariant B: traffic moves only to a version that is ready and has answered a real prompt, and the version that had
it stays ready until the new one has stood its probation. Recreate alone accepts a gap: it runs one version at a time,
and puts the last good one back when its successor fails.

An executor writes the status of a decision before it applies the rest: everything else is decided again from the
status and the world when it dies in between.
"""

from __future__ import annotations

from datetime import datetime

from slipway_core.resources.model_endpoint import ModelEndpoint
from slipway_core.rollout import parity, promotion, wear
from slipway_core.rollout.candidate import advance_candidate, choose_candidate
from slipway_core.rollout.decision import EndpointDecision
from slipway_core.rollout.draft import Draft
from slipway_core.rollout.live import judge_live, retire_standby
from slipway_core.rollout.observed import EndpointObserved


def step(endpoint: ModelEndpoint, observed: EndpointObserved, now: datetime) -> EndpointDecision:
    """Decides what an endpoint needs now. Pure; reads in the order in which a version comes to life."""
    draft = Draft.of(endpoint, observed, now)
    draft.show_blockers()
    _honour_retry(draft)
    judge_live(draft)
    choose_candidate(draft)
    advance_candidate(draft)
    retire_standby(draft)
    parity.show(draft)
    promotion.show(draft)
    wear.show(draft)
    return draft.decide()


def _honour_retry(draft: Draft) -> None:
    if draft.observed.retry != draft.retry:
        draft.retry = draft.observed.retry
        draft.forgive = draft.retry is not None
