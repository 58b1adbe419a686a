"""Which folder of the workspace claim is a run's. Everything that mounts, names or removes it asks here."""

from __future__ import annotations

from slipway_core.plan import Plan
from slipway_core.protocol.workspace import WORKSPACE_MOUNT
from slipway_operator import names


def folder_of(plan: Plan) -> str:
    """Returns the folder, as the claim has it."""
    return names.run_folder(plan.run.name, plan.run.uid)


def path_of(plan: Plan) -> str:
    """Returns the same as a pod has it: the paths in a run's records stay the same, whatever of a claim is mounted."""
    return f"{WORKSPACE_MOUNT}/{folder_of(plan)}"
