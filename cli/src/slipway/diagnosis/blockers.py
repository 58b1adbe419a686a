"""What keeps a run from going on, or is wrong although it does, as the conditions of its status tell it."""

from __future__ import annotations

from slipway_core.lifecycle.draft import OWN_CONDITIONS, STEP_WARNING
from slipway_core.resources.promotion import LACKS_REQUIRED_GATE
from slipway_core.resources.status import Condition, RunStatus


def blockers(status: RunStatus) -> list[Condition]:
    """Returns what a run waits for and is warned of; nothing of one that has ended."""
    if status.phase.finished:
        return []
    return [
        condition
        for condition in status.conditions
        if (condition.status == "True" and condition.type not in OWN_CONDITIONS)
        or (condition.status == "False" and condition.type == "Planned")
    ]


def title(blocker: Condition) -> str:
    """Returns it in a word: SecretMissing, Unschedulable, RunNotFound."""
    return blocker.reason if blocker.type in OWN_CONDITIONS else blocker.type


def is_warning(blocker: Condition) -> bool:
    """Whether the run goes on all the same."""
    return blocker.type in (STEP_WARNING, LACKS_REQUIRED_GATE)


def sentence(blocker: Condition) -> str:
    return f"warning: {blocker.message}" if is_warning(blocker) else f"waits: {title(blocker)}: {blocker.message}"
