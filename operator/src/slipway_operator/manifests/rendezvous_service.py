"""How the pods of a training attempt find pod 0."""

from __future__ import annotations

from slipway_core.plan import Plan
from slipway_operator import names
from slipway_operator.manifest import Manifest
from slipway_operator.manifests.owner import Owner


def rendezvous_service(plan: Plan, owner: Owner, step: str, attempt: int) -> Manifest:
    """Returns the headless Service that gives `<job>-0.<service>` an address."""
    run = plan.run
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": names.rendezvous(run.name, step, attempt),
            "namespace": run.namespace,
            "labels": names.step_labels(run.name, run.uid, step, attempt),
            "ownerReferences": [owner.reference()],
        },
        "spec": {
            "clusterIP": "None",
            # The ranks look for each other before any of them is ready for anything.
            "publishNotReadyAddresses": True,
            "selector": names.step_labels(run.name, run.uid, step, attempt),
        },
    }
