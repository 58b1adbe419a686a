"""The Job that takes a run's folder off the workspace."""

from __future__ import annotations

import copy

from slipway_core.plan import Plan
from slipway_core.protocol import variables
from slipway_core.resources import pod_security
from slipway_operator import names
from slipway_operator.kube.manifest import Manifest
from slipway_operator.manifests.owner import Owner
from slipway_operator.manifests.pod import claims, environment, placement, scratch
from slipway_operator.manifests.run.workspace_folder import path_of
from slipway_operator.settings import Settings

_TRIES = 3
_RESOURCES = {"requests": {"cpu": "50m", "memory": "128Mi"}, "limits": {"cpu": "1", "memory": "512Mi"}}
"""It takes 40 MiB. Under a quota on limits a pod without them is not made, and nobody is there to see why."""


def cleanup_job(plan: Plan, owner: Owner, *, settings: Settings, claim: str, keep_artifact: bool = False) -> Manifest:
    """Returns the Job. What it does may be done again, from wherever a killed one left it.

    Args:
        plan: of the run whose folder goes.
        owner: the plan's ConfigMap, which is deleted once the folder is gone, and takes this Job with it.
        settings: of the operator.
        claim: the PersistentVolumeClaim of the workspace.
        keep_artifact: leaves the model that an endpoint serves, or may serve again, or that another run starts from.
    """
    run = plan.run
    labels = names.run_labels(run.name, run.uid, names.CLEANUP)
    arguments = ["cleanup", "--workspace", path_of(plan)]
    # A folder is removed from the one above it. Where it stays, nothing else is to be reached.
    mount = claims.mounts(claim, plan.workspace_folder, {})[0] if keep_artifact else claims.whole_workspace()
    pod: Manifest = {
        **pod_security.no_cluster_access(),
        **placement.placement(plan.compute, settings.training, settings.images.pull_secrets),
        "restartPolicy": "Never",
        "securityContext": pod_security.pod_security(),
        "containers": [
            {
                "name": "trainer",
                # No run vouches for its record any more, and whoever may write ConfigMaps may choose no image.
                "image": settings.images.train,
                "imagePullPolicy": settings.images.pull_policy,
                "args": [*arguments, "--keep-artifact"] if keep_artifact else arguments,
                "env": environment.values({**scratch.variables(), variables.PLAN_DIGEST_VARIABLE: plan.digest}),
                "resources": copy.deepcopy(_RESOURCES),
                "securityContext": pod_security.container_security(),
                "terminationMessagePolicy": "FallbackToLogsOnError",
                "volumeMounts": [mount, *scratch.mounts()],
            }
        ],
        "volumes": [*claims.volumes(claim, ()), *scratch.volumes(settings.training.shared_memory)],
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": names.cleanup(run.name, run.uid, keep_artifact=keep_artifact),
            "namespace": run.namespace,
            "labels": labels,
            "ownerReferences": [owner.reference()],
        },
        "spec": {
            "backoffLimit": _TRIES,
            "template": {"metadata": placement.metadata(plan.compute, settings.training, labels), "spec": pod},
        },
    }
