"""The plan of a run, kept where nobody can edit it."""

from __future__ import annotations

from slipway_core.plan import Plan
from slipway_operator import names
from slipway_operator.kube.manifest import Manifest
from slipway_operator.manifests.errors import ManifestError

PLAN_KEY = "plan.json"
LIMIT = 1 << 20
"""Bytes of a ConfigMap's data; the API server takes no more."""


def plan_config_map(plan: Plan) -> Manifest:
    """Returns the ConfigMap. No run owns it: it says what lies in the workspace after the run was deleted.

    Raises ManifestError when the plan is larger than a ConfigMap may be.
    """
    text = plan.to_json()
    size = len(text.encode())
    if size > LIMIT - len(PLAN_KEY):
        raise ManifestError(
            "PlanTooLarge",
            f"spec: the plan of {plan.run.name} has {size} bytes and a ConfigMap takes {LIMIT}; "
            "name folders or globs in stages[].data instead of single files",
        )
    metadata: Manifest = {
        "name": names.plan(plan.run.name, plan.run.uid),
        "namespace": plan.run.namespace,
        "labels": names.run_labels(plan.run.name, plan.run.uid, "plan"),
    }
    if plan.folder is not None:
        # The cache has no data of it, and this folder is not to be removed by the record of the earlier run.
        metadata["annotations"] = {names.FOLDER: plan.place}
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata,
        "immutable": True,
        "data": {PLAN_KEY: text},
    }
