"""A retry that somebody asks for: what failed is tried again, and data that was found damaged is prepared anew."""

from __future__ import annotations

from slipway_core.lifecycle.annotations import RETRY_ANNOTATION, request_token
from slipway_core.lifecycle.draft import Draft
from slipway_core.resources.status import (
    StepState,
)

DAMAGED_DATA = "DamagedShard:"
"""How the message of a step begins that found prepared data damaged."""


def honour_retry(draft: Draft) -> None:
    wish = request_token(draft.run.metadata.annotations, RETRY_ANNOTATION)
    if wish is None or wish == draft.retry:
        return
    draft.retry = wish
    for name, record in draft.steps.items():
        if record.state is StepState.FAILED:
            draft.steps[name] = record.model_copy(
                update={
                    "state": StepState.WAITING,
                    "failures": 0,
                    "stalls": 0,
                    "stalled_since": None,
                    "finished_at": None,
                }
            )
            draft.event("Normal", "Retrying", f"{name} is tried again")
            if (record.message or "").startswith(DAMAGED_DATA):
                prepare_again(draft)


def prepare_again(draft: Draft) -> None:
    """What prepare wrote is damaged; it checks what is there and makes anew what is not as it was."""
    record = draft.steps["prepare"]
    if record.state is StepState.SUCCEEDED:
        draft.steps["prepare"] = record.model_copy(
            update={"state": StepState.WAITING, "finished_at": None, "resumed_step": 0}
        )
        draft.event("Normal", "Retrying", "prepare is run again: its data is damaged")
