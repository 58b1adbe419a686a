"""What people ask of a run by its annotations: a retry, or another judgement."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from slipway_core.lifecycle.draft import Draft
from slipway_core.resources.status import (
    StepState,
)

RETRY_ANNOTATION = "slipway.dev/retry"
"""A new value gives a failed run its retries back."""

REEVALUATE_ANNOTATION = "slipway.dev/reevaluate"
"""A new value has a held run judged again."""

_TOKEN_LIMIT = 253
"""Characters of an annotation's value that a status holds as it is; an annotation may have 256 KiB."""

DAMAGED_DATA = "DamagedShard:"
"""How the message of a step begins that found prepared data damaged."""


def request_token(annotations: Mapping[str, str], name: str) -> str | None:
    """Returns the value of an annotation that asks for something, as a status remembers it: a hash of a long one."""
    value = annotations.get(name)
    if value is None or len(value) <= _TOKEN_LIMIT:
        return value
    return hashlib.sha256(value.encode()).hexdigest()


def honour_retry(draft: Draft) -> None:
    wish = request_token(draft.run.metadata.annotations, RETRY_ANNOTATION)
    if wish is None or wish == draft.retry:
        return
    draft.retry = wish
    for name, record in draft.steps.items():
        if record.state is StepState.FAILED:
            draft.steps[name] = record.model_copy(
                update={"state": StepState.WAITING, "failures": 0, "stalls": 0, "finished_at": None}
            )
            draft.event("Normal", "Retrying", f"{name} is tried again")
            if (record.message or "").startswith(DAMAGED_DATA):
                _prepare_again(draft)


def _prepare_again(draft: Draft) -> None:
    """What prepare wrote is damaged; it checks what is there and makes anew what is not as it was."""
    record = draft.steps["prepare"]
    if record.state is StepState.SUCCEEDED:
        draft.steps["prepare"] = record.model_copy(update={"state": StepState.WAITING, "finished_at": None})
        draft.event("Normal", "Retrying", "prepare is run again: its data is damaged")
