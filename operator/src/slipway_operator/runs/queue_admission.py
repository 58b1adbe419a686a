"""Why a queue holds a Job back: what Kueue says of its Workload.

Its API is somebody else's: served by a webhook that may hang, or by CRDs that are being replaced. What it says is words
alone, so nothing that is decided about a run waits for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from slipway_core.resources.conditions import Blocker
from slipway_operator.kube.cluster import Cluster
from slipway_operator.kube.errors import ClusterError, Forbidden, NotFound
from slipway_operator.kube.kinds import WORKLOAD
from slipway_operator.kube.manifest import Manifest, condition, items, labels
from slipway_operator.manifests.run.step_job import QUEUE_LABEL

_JOB_UID = "kueue.x-k8s.io/job-uid"
_ANSWER_SECONDS: Final = 5.0
"""How long an answer is waited for. A run that is told to stop waits behind it, and so does a worker."""
_RELOOK: Final = timedelta(seconds=30)
"""How long a namespace whose Workloads could not be read is not asked again: hundreds of runs may wait there."""


@dataclass
class QueueAdmission:
    cluster: Cluster
    clock: Callable[[], datetime]
    patience: float = _ANSWER_SECONDS
    _silent: dict[str, tuple[datetime, str]] = field(default_factory=dict[str, tuple[datetime, str]])
    """By namespace: when its Workloads could not be read, and why."""

    async def why(self, job: Manifest) -> Blocker:
        """Returns the condition Queued of a Job that is suspended. One that cannot be asked about says so."""
        queue, namespace = labels(job).get(QUEUE_LABEL), job["metadata"]["namespace"]
        if queue is None:
            return _in_no_queue(job)
        at, error = self._silent.get(namespace, (None, ""))
        if at is None or self.clock() - at >= _RELOOK:
            self._silent.pop(namespace, None)
            try:
                async with asyncio.timeout(self.patience):
                    return await _ask(self.cluster, job, queue)
            except ClusterError as raised:
                error = str(raised)
            except TimeoutError:
                error = f"no answer within {self.patience:g} s"
            self._silent[namespace] = self.clock(), error
        return _unanswered(queue, error)


async def _ask(cluster: Cluster, job: Manifest, queue: str) -> Blocker:
    """Returns the condition in Kueue's words, where it has said something.

    Raises ClusterError where its Workloads cannot be read, for another reason than that this is not allowed.
    """
    metadata = job["metadata"]
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


def _in_no_queue(job: Manifest) -> Blocker:
    """Kueue gives a Job without one the LocalQueue `default` of its namespace, where there is one."""
    name = job["metadata"]["name"]
    message = f"the Job {name} is suspended and in no queue; resume it, or name one in compute.queue"
    return Blocker("Queued", "NoQueue", message)


def _unanswered(queue: str, error: str) -> Blocker:
    message = (
        f"queue {queue} has not admitted it, and nobody knows why: Kueue's Workloads cannot be read ({error}). See "
        "whether Kueue works (kubectl get workloads; kubectl get pods -n kueue-system); it is asked again"
    )
    return Blocker("Queued", "QueueUnreachable", message)


def _unseen(queue: str) -> Blocker:
    return Blocker("Queued", "Waiting", f"queue {queue} has not looked at it yet; is there a LocalQueue {queue}?")
