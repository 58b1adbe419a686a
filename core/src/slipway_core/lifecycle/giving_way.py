"""Two runs over several nodes that each hold some of them wait for each other for ever: one of them gives way.

No run knows what the others want, so each goes by the clock. Where an older run waits in the same way the younger one
gives its places back after the stated time, and the older one has as long again to get them. One that nobody waits for,
because a cluster is just too full or an autoscaler takes its time, gives way too, so that what it holds is of use to
somebody; ever later, since each time costs it a restart.
"""

from __future__ import annotations

from datetime import timedelta

from slipway_core.lifecycle.decision import DeleteAttempt
from slipway_core.lifecycle.draft import Draft
from slipway_core.lifecycle.observed import Attempt, HalfPlaced
from slipway_core.resources.api import in_words
from slipway_core.resources.status import StepStatus

GAVE_WAY = "GaveWay"
"""Reason of the condition Progressing, and of the Event."""
_LONGEST = 4
"""Doublings of the stated time at the most: 2 h 40 min of 10 min."""


def gives_way(draft: Draft, name: str, attempt: Attempt) -> bool:
    """Whether an attempt that is there gives its places back now, or is about to have done so."""
    record, half = draft.steps[name], attempt.half_placed
    if record.yielded_attempt == attempt.number:
        # Until it is gone, for the deletion may have been refused; it goes once, however often it is asked for.
        draft.delete.append(_deletion(name, attempt))
        return True
    if half is None:
        if record.gave_way and attempt.state == "Running":
            draft.update(name, gave_way=0)  # All of it has a place.
        return False
    left = half.since + _patience(draft, record, half) - draft.now
    if left > timedelta(0):
        draft.look_again = left
        return False
    draft.delete.append(_deletion(name, attempt))
    yields(draft, name, attempt, half)
    draft.event("Warning", GAVE_WAY, draft.steps[name].message or "")
    return True


def _deletion(name: str, attempt: Attempt) -> DeleteAttempt:
    return DeleteAttempt(name, attempt.number, "it gives way")


def yields(draft: Draft, name: str, attempt: Attempt, half: HalfPlaced) -> None:
    """Enters that an attempt gave way: its end is no interruption, and the next one begins after a pause."""
    held = in_words((draft.now - half.since).total_seconds())
    whom = (
        "so that an older run that waits in the same way gets its places" if half.elder else "so that others may go on"
    )
    draft.update(
        name,
        yielded_attempt=attempt.number,
        gave_way=draft.steps[name].gave_way + 1,
        message=f"{half.placed} of its {half.wanted} pods had a place for {held} and the others found none: it gave "
        f"them back, {whom}; free or add nodes, or name a queue (compute.queue), which admits all pods or none",
    )


def pause(draft: Draft, record: StepStatus) -> timedelta:
    """Returns how long after its end the next attempt waits. The scheduler looks again at the pods of the other run
    within 10 s of that end."""
    if record.yielded_attempt != record.attempt:
        return timedelta(0)
    return min(draft.policy.backoff * 2 ** min(record.gave_way + 1, 16), draft.policy.longest_backoff)


def _patience(draft: Draft, record: StepStatus, half: HalfPlaced) -> timedelta:
    return draft.policy.half_placed * (1 if half.elder else 2 ** min(record.gave_way + 1, _LONGEST))
