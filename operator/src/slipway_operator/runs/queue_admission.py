"""Why a queue holds a Job back: what Kueue says of its Workload."""

from __future__ import annotations

from slipway_core.resources.conditions import Blocker
from slipway_operator.kube.cluster import Cluster
from slipway_operator.kube.errors import Forbidden, NotFound
from slipway_operator.kube.kinds import WORKLOAD
from slipway_operator.kube.manifest import Manifest, condition, items, labels
from slipway_operator.manifests.run.step_job import QUEUE_LABEL

_JOB_UID = "kueue.x-k8s.io/job-uid"


async def why_queued(cluster: Cluster, job: Manifest) -> Blocker:
    """Returns the condition Queued of a Job that is suspended, in Kueue's words where it has said something."""
    metadata = job["metadata"]
    # Kueue gives a Job without one the LocalQueue `default` of its namespace, where there is one.
    queue = labels(job).get(QUEUE_LABEL)
    if queue is None:
        message = f"the Job {metadata['name']} is suspended and in no queue; resume it, or name one in compute.queue"
        return Blocker("Queued", "NoQueue", message)
    try:
        workload = None
        async for page, _ in cluster.pages(WORKLOAD, metadata["namespace"], f"{_JOB_UID}={metadata['uid']}"):
            workload = next(iter(page), None)
            break
    except NotFound:
        message = (
            f"compute.queue is {queue} and this cluster has no Kueue that serves {WORKLOAD.api_version}; "
            "install it (0.15 or later), or leave compute.queue out"
        )
        return Blocker("Queued", "NoKueue", message)
    except Forbidden:
        message = (
            f"queue {queue} has not admitted it, and the operator may not read why: set kueue.enabled of its chart, "
            "and see whether the cluster has Kueue (kubectl describe workloads)"
        )
        return Blocker("Queued", "Waiting", message)
    return of_workload(workload, queue) if workload is not None else _unseen(queue)


def of_workload(workload: Manifest, queue: str) -> Blocker:
    """Returns what keeps a Workload from being admitted."""
    if refused := condition(workload, "QuotaReserved", "False"):
        return Blocker("Queued", str(refused.get("reason") or "Waiting"), f"queue {queue}: {refused.get('message')}")
    if not condition(workload, "QuotaReserved"):
        return _unseen(queue)
    for check in items(workload, "status", "admissionChecks"):
        if check.get("state") != "Ready":
            said = check.get("message") or check.get("state")
            message = f"queue {queue} has room for it and waits for the admission check {check.get('name')}: {said}"
            return Blocker("Queued", "AdmissionCheck", message)
    return Blocker("Queued", "Waiting", f"queue {queue} has room for it and is about to start it")


def _unseen(queue: str) -> Blocker:
    return Blocker("Queued", "Waiting", f"queue {queue} has not looked at it yet; is there a LocalQueue {queue}?")
