"""Why a queue holds a Job back: what Kueue says of its Workload."""

from __future__ import annotations

from slipway_core.observed import Blocker
from slipway_operator.cluster import WORKLOAD, Cluster, Forbidden, NotFound
from slipway_operator.manifest import Manifest, items

_JOB_UID = "kueue.x-k8s.io/job-uid"


async def why_queued(cluster: Cluster, job: Manifest, queue: str | None) -> Blocker:
    """Returns the condition Queued of a Job that is suspended, in Kueue's words where it has said something."""
    metadata = job["metadata"]
    try:
        workloads, _ = await cluster.list(WORKLOAD, metadata["namespace"], f"{_JOB_UID}={metadata['uid']}")
    except NotFound:
        message = f"compute.queue is {queue} and this cluster has no Kueue; install it, or leave compute.queue out"
        return Blocker("Queued", "NoKueue", message)
    except Forbidden:
        return Blocker("Queued", "Waiting", f"queue {queue} has not admitted it yet (kubectl describe workloads)")
    for workload in workloads:
        for condition in items(workload, "status", "conditions"):
            if condition.get("type") == "QuotaReserved" and condition.get("status") == "False":
                reason = str(condition.get("reason") or "Waiting")
                return Blocker("Queued", reason, f"queue {queue}: {condition.get('message')}")
    return Blocker("Queued", "Waiting", f"queue {queue} has not looked at it yet; is there a LocalQueue {queue}?")
