"""Where a pod has the run's own folder of the workspace claim."""

from __future__ import annotations

from slipway_core.plan import Plan
from slipway_core.protocol.workspace import WORKSPACE_MOUNT


def path_of(plan: Plan) -> str:
    """Returns the path: the paths in a run's records stay the same, whatever of a claim is mounted."""
    return f"{WORKSPACE_MOUNT}/{plan.workspace_folder}"
