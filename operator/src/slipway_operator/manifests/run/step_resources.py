"""What a pod of a step asks the scheduler for."""

from __future__ import annotations

from collections.abc import Mapping

from slipway_core.plan import Plan
from slipway_core.resources.api import Quantity
from slipway_core.resources.stage import FIXED_STEPS
from slipway_operator.kube.manifest import Manifest
from slipway_operator.settings import Settings


def step_resources(plan: Plan, step: str, settings: Settings) -> Manifest:
    """Returns `resources` of a step's container.

    compute.resources is for every step, for a model that is trained is loaded to be merged and measured as well; but
    devices (whatever a vendor's plugin counts) only go to the training stages, and one accelerator to evaluate.
    """
    trains = step not in FIXED_STEPS
    wanted = plan.compute.resources or settings.training.resources
    requests, limits = _quantities(wanted.requests, devices=trains), _quantities(wanted.limits, devices=trains)
    accelerators = {"prepare": 0, "export": 0, "evaluate": 1, "publish": 0}.get(step, plan.compute.processes_per_node)
    if plan.accelerator is not None and accelerators:
        requests.pop(plan.accelerator, None)
        limits[plan.accelerator] = str(accelerators)
    return {"requests": requests, "limits": limits}


def _quantities(quantities: Mapping[str, Quantity], *, devices: bool) -> dict[str, str]:
    return {name: str(value) for name, value in quantities.items() if devices or "/" not in name}
