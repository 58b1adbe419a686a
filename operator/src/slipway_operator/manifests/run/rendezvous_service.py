"""How the pods of a training attempt find pod 0. One Service a stage: on spot nodes attempts are many."""

from __future__ import annotations

from slipway_core.plan import Plan
from slipway_operator import names
from slipway_operator.kube.manifest import Manifest
from slipway_operator.manifests.owner import Owner


def rendezvous_service(plan: Plan, owner: Owner, step: str) -> Manifest:
    """Returns the headless Service that gives `<job>-0.<service>` an address."""
    run = plan.run
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": names.rendezvous(run.name, step),
            "namespace": run.namespace,
            "labels": names.stage_labels(run.name, run.uid, step),
            "ownerReferences": [owner.reference()],
        },
        "spec": {
            "clusterIP": "None",
            # The ranks look for each other before any of them is ready for anything.
            "publishNotReadyAddresses": True,
            "selector": names.stage_labels(run.name, run.uid, step),
        },
    }
