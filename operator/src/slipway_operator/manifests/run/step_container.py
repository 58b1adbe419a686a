"""The container of a step: what the process is told, by its arguments and its environment."""

from __future__ import annotations

from typing import Final

from slipway_core.plan import Plan
from slipway_core.protocol import variables
from slipway_core.protocol.commands import Baseline, Inputs, step_command
from slipway_core.resources import pod_security
from slipway_core.resources.api import seconds
from slipway_core.resources.stage import FIXED_STEPS
from slipway_operator import names
from slipway_operator.kube.manifest import Manifest
from slipway_operator.kube.pod_http import PROGRESS_PORT
from slipway_operator.manifests.pod import claims, credentials, environment, scratch
from slipway_operator.manifests.pod.credentials import Source
from slipway_operator.manifests.run import publishing_secrets
from slipway_operator.manifests.run.plan_config_map import PLAN_KEY
from slipway_operator.manifests.run.step_resources import step_resources
from slipway_operator.manifests.run.workspace_folder import path_of
from slipway_operator.settings import Settings

CONTAINER: Final = "trainer"
MASTER_PORT: Final = 29400
PLAN_FOLDER: Final = "/etc/slipway/plan"
PLAN_MOUNT: Final = {"name": "plan", "mountPath": PLAN_FOLDER, "readOnly": True}
_INDEX = "metadata.labels['batch.kubernetes.io/job-completion-index']"
_TERMINATION_LOG = "/dev/termination-log"


def step_container(
    plan: Plan,
    step: str,
    attempt: int,
    *,
    sources: list[Source],
    settings: Settings,
    baseline: Baseline | None,
    inputs: Inputs,
    job: str,
) -> Manifest:
    """Returns the container without its mounts.

    Raises ManifestError when two Secrets of the sources contradict each other.
    """
    secrets = credentials.container_part(sources)
    return {
        "name": CONTAINER,
        "image": plan.images.train or settings.images.train,
        "imagePullPolicy": settings.images.pull_policy,
        "args": step_command(
            step, plan=f"{PLAN_FOLDER}/{PLAN_KEY}", attempt=attempt, workspace=path_of(plan), baseline=baseline
        ),
        "env": [
            *_environment(plan, settings),
            *environment.values(inputs.variables()),
            *environment.values(_layout(plan, step)),
            *_rendezvous(plan, step, job),
            *secrets["env"],
            *publishing_secrets.of(plan, step),
        ],
        "envFrom": secrets["envFrom"],
        "ports": [{"name": "progress", "containerPort": PROGRESS_PORT}],
        "resources": step_resources(plan, step, settings),
        "securityContext": pod_security.container_security(),
        "terminationMessagePath": _TERMINATION_LOG,
        "terminationMessagePolicy": "File",
    }


def _environment(plan: Plan, settings: Settings) -> list[Manifest]:
    told = {
        **scratch.variables(),
        variables.RESULT_VARIABLE: _TERMINATION_LOG,
        variables.PROGRESS_PORT_VARIABLE: str(PROGRESS_PORT),
        # The plan may be replaced between the pass that read it and the start of the pod that mounts it.
        variables.PLAN_DIGEST_VARIABLE: plan.digest,
        variables.GRACE_VARIABLE: str(seconds(settings.training.grace)),
        variables.CLAIMS_VARIABLE: claims.CLAIMS,
    }
    return [
        *environment.values(told),
        environment.from_field(variables.PROGRESS_HOST_VARIABLE, "status.podIP"),
    ]


def _layout(plan: Plan, step: str) -> dict[str, str]:
    """How many processes this attempt is: compute may be edited between two, and the record of the plan stays. What a
    release planned that knew version 1 alone has an image that reads them there."""
    if step in FIXED_STEPS or plan.version == 1:
        return {}
    compute = plan.compute
    return {
        variables.NODES_VARIABLE: str(compute.nodes),
        variables.PROCESSES_VARIABLE: str(compute.processes_per_node),
    }


def _rendezvous(plan: Plan, step: str, job: str) -> list[Manifest]:
    """Where the other pods are. Without it all ranks start in this one."""
    if step in FIXED_STEPS or plan.compute.nodes == 1:
        return []
    master = f"{job}-0.{names.rendezvous(plan.run.name, step)}"
    return [
        environment.from_field("SLIPWAY_NODE_RANK", _INDEX),
        *environment.values({"SLIPWAY_MASTER_ADDR": master, "SLIPWAY_MASTER_PORT": str(MASTER_PORT)}),
    ]
