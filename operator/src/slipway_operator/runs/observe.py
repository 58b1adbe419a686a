"""The world of one run, out of its Jobs, their pods and its endpoint: what `lifecycle.step` decides upon. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from slipway_core.lifecycle.endpoint_claim import claim_on
from slipway_core.lifecycle.observed import Attempt, EndpointView, HalfPlaced
from slipway_core.protocol import exit_codes, step_result
from slipway_core.protocol.exit_codes import ExitClass
from slipway_core.protocol.step_result import StepResult
from slipway_core.protocol.workspace import WORKSPACE_MOUNT
from slipway_core.resources.conditions import parse_timestamp
from slipway_core.resources.status import ArtifactStatus, Progress
from slipway_operator import names
from slipway_operator.cache.world import uid_of
from slipway_operator.common import failure_class
from slipway_operator.common.failure_class import PodEnd
from slipway_operator.kube import resources
from slipway_operator.kube.manifest import Manifest, at, condition, job_end, labels, notes
from slipway_operator.runs import own_objects

_TAKEN_BACK = "the queue took its quota back; it goes on when the queue admits it again"


@dataclass(frozen=True)
class AttemptKey:
    step: str
    number: int


@dataclass(frozen=True)
class AttemptObjects:
    """What the cluster has of one attempt."""

    key: AttemptKey
    job: Manifest | None
    """None once the Job was deleted; its pods may still be ending."""
    pods: tuple[Manifest, ...]

    @property
    def first_pod(self) -> Manifest | None:
        """The newest pod of index 0, whose process reports for all ranks."""
        own = [pod for pod in self.pods if failure_class.index_of(pod) == 0]
        return max(own, key=lambda pod: pod["metadata"].get("creationTimestamp") or "", default=None)

    @property
    def quiet(self) -> bool:
        """Whether none of its pods has a process."""
        return all(failure_class.has_ended(pod) for pod in self.pods)

    @property
    def suspended(self) -> bool:
        """Whether a queue holds it back, or took its pods away again."""
        return self.job is not None and bool(self.job["spec"].get("suspend")) and self.finished is None

    @property
    def finished(self) -> Literal["Complete", "Failed"] | None:
        """How the Job ended, once all of its pods have."""
        return job_end(self.job)

    @property
    def being_deleted(self) -> bool:
        return self.job is None or "deletionTimestamp" in self.job["metadata"]


def group(jobs: Iterable[Manifest], pods: Iterable[Manifest]) -> dict[AttemptKey, AttemptObjects]:
    """Returns the attempts of one run, by the labels of its Jobs and pods. Which are its own the caller knows."""
    found: dict[AttemptKey, tuple[Manifest | None, list[Manifest]]] = {}
    for job in jobs:
        if key := _key(job):
            found[key] = (job, [])
    for pod in pods:
        if key := _key(pod):
            found.setdefault(key, (None, []))[1].append(pod)
    return {key: AttemptObjects(key, job, tuple(own)) for key, (job, own) in found.items()}


def attempt(
    objects: AttemptObjects,
    *,
    claim: str,
    progress: Progress | None,
    evicted: bool,
    now: datetime,
    half_placed: HalfPlaced | None = None,
    place: str | None = None,
) -> Attempt | None:
    """Returns one attempt as the lifecycle sees it; None when nothing of it is left to be told.

    Args:
        objects: its Job and pods.
        claim: the workspace claim, which names the artifact outside of the pod.
        progress: what rank 0 said last.
        evicted: whether a queue took back an attempt that had run.
        now: the time.
        half_placed: whether some of its pods wait, or waited to their end, for places that others have.
        place: mark of where it would run if it were made now.
    """
    found = _attempt(objects, claim, progress, evicted, now)
    return (
        None
        if found is None
        else replace(
            found,
            job=_uid_of_job(objects),
            progress=_outside(found.progress, claim),
            half_placed=half_placed,
            elsewhere=_elsewhere(objects, place),
            **_layout(objects.job),
        )
    )


def _elsewhere(objects: AttemptObjects, place: str | None) -> Literal["Waiting", "Placed"] | None:
    """Returns whether an attempt was made for another place than it would be now; of a Job that says no place, None."""
    made = notes(objects.job).get(names.PLACE) if objects.job is not None else None
    if None in (made, place) or made == place:
        return None
    placed = any(at(pod, "spec").get("nodeName") or not _is_pending(pod) for pod in objects.pods)
    if placed and objects.being_deleted:
        return None  # It goes on nowhere.
    return "Placed" if placed else "Waiting"


def _layout(job: Manifest | None) -> dict[str, int]:
    """Returns over what an attempt was spread when it was made; nothing of a step that is one process, and of a Job
    that an earlier release made."""
    said = notes(job).get(names.PROCESSES, "") if job is not None else ""
    if not said.isdecimal():
        return {}
    return {"nodes": at(job, "spec").get("completions", 1), "processes_per_node": int(said)}


def _attempt(
    objects: AttemptObjects, claim: str, progress: Progress | None, evicted: bool, now: datetime
) -> Attempt | None:
    job = objects.job
    started = _started(objects, now)
    number = objects.key.number
    if not objects.quiet:
        running = is_running(objects.first_pod)
        return Attempt(number, "Running" if running else "Starting", started, progress=progress)
    ends = [failure_class.end_of(pod) for pod in objects.pods]
    if objects.suspended:
        # Its pods have their say, as long as they are there; the Job itself has not failed.
        if any(end.exit_class is not ExitClass.DONE for end in ends):
            return _judge(objects, ends, claim, started, now, progress)
        if evicted and len(ends) < at(job, "spec").get("completions", 1):
            return _ended(number, started, ExitClass.INTERRUPTED, _TAKEN_BACK, None, None, now, progress)
    if objects.finished is None and job is not None and not (objects.being_deleted and ends):
        # Pods that have ended wait for the Job's own word: it may still owe some of its indexes a pod.
        return Attempt(number, "Running" if ends else "Starting", started, progress=progress)
    if not ends:
        if job is None or objects.finished is None:
            return None
        why = _failed_because(job)
        return _ended(number, started, ExitClass.INTERRUPTED, f"its pods are gone: {why}", None, None, now, progress)
    return _judge(objects, ends, claim, started, now, progress)


def endpoint_view(manifest: Manifest | None) -> EndpointView | None:
    """Returns an endpoint as a run sees it; None when there is none."""
    if manifest is None:
        return None
    try:
        endpoint = resources.endpoint(manifest)
    except resources.UnreadableError as error:
        return EndpointView(current=False, unreadable=str(error))
    claim = claim_on(endpoint)
    if endpoint.status is None:
        return EndpointView(
            claim, current=False, rollback_to=endpoint.spec.rollback_to, promotion=endpoint.spec.promotion
        )
    # The API server counts its deletion as a generation, which no status is about any more. While what it owns is let
    # go of or goes first (--cascade=orphan, foreground) it is there, and has no other settings to take up.
    going = "deletionTimestamp" in manifest["metadata"]
    current = going or endpoint.status.observed_generation == endpoint.metadata.generation
    return EndpointView(claim, endpoint.status, current, endpoint.spec.rollback_to, endpoint.spec.promotion)


def outside_uri(uri: str, claim: str) -> str:
    """Returns the name of what lies in a workspace outside of the pod that wrote it: `pvc://<claim>/<folder>/…`."""
    inside = f"file://{WORKSPACE_MOUNT}/"
    return f"pvc://{claim}/{uri.removeprefix(inside)}" if uri.startswith(inside) else uri


def _outside(progress: Progress | None, claim: str) -> Progress | None:
    """Returns a progress whose links people outside of the pod can follow."""
    if progress is None or not progress.links:
        return progress
    links = {name: outside_uri(link, claim) for name, link in progress.links.items()}
    return progress.model_copy(update={"links": links})


def _judge(
    objects: AttemptObjects,
    ends: list[PodEnd],
    claim: str,
    started: datetime,
    now: datetime,
    progress: Progress | None,
) -> Attempt:
    number = objects.key.number
    found = exit_codes.gravest([end.exit_class for end in ends])
    speaker = min((end for end in ends if end.exit_class is found), key=lambda end: end.index)
    if found is ExitClass.DONE and objects.finished == "Failed":
        # Some pod of it failed and is gone already: what is left must not speak for all.
        why = _failed_because(objects.job)
        return _ended(number, started, ExitClass.INTERRUPTED, why, None, None, now, progress)
    result, error = _result(speaker, objects.key, claim)
    finished = max((end.finished_at for end in ends if end.finished_at), default=None)
    moment = parse_timestamp(finished) if finished else now
    taken_back = objects.suspended and found in (ExitClass.INTERRUPTED, ExitClass.LOST_PEERS)
    message = _TAKEN_BACK if taken_back else speaker.message or None
    return _ended(number, started, found, message, result, error, moment, progress)


def _ended(
    number: int,
    started: datetime,
    exit_class: ExitClass,
    message: str | None,
    result: StepResult | None,
    error: str | None,
    finished: datetime,
    progress: Progress | None,
) -> Attempt:
    return Attempt(
        number=number,
        state="Ended",
        started_at=started,
        exit_class=exit_class,
        message=message,
        result=result,
        result_error=error,
        finished_at=finished,
        progress=progress,
    )


def _result(end: PodEnd, key: AttemptKey, claim: str) -> tuple[StepResult | None, str | None]:
    try:
        result = step_result.decode(end.termination_message)
    except step_result.ResultError as error:
        return None, str(error)
    if (result.step, result.attempt) != (key.step, key.number):
        return None, f"the process left the result of {result.step}, attempt {result.attempt}"
    result = result.model_copy(update={"progress": _outside(result.progress, claim)})
    if result.artifact is not None:
        told = ArtifactStatus(uri=outside_uri(result.artifact.uri, claim), digest=result.artifact.digest)
        result = result.model_copy(update={"artifact": told})
    return result, None


def _failed_because(job: Manifest | None) -> str:
    found = condition(job, "Failed")
    return str(found.get("message") or found.get("reason")) if found else "the Job ended without a pod"


def is_running(pod: Manifest | None) -> bool:
    return at(pod, "status").get("phase") == "Running"


def _is_pending(pod: Manifest) -> bool:
    return at(pod, "status").get("phase", "Pending") == "Pending"


def _started(objects: AttemptObjects, now: datetime) -> datetime:
    for manifest in (objects.job, *objects.pods):
        if manifest is not None and (created := manifest["metadata"].get("creationTimestamp")):
            return parse_timestamp(created)
    return now


def _uid_of_job(objects: AttemptObjects) -> str | None:
    if objects.job is not None:
        return uid_of(objects.job)
    return next((str(uid) for pod in objects.pods if (uid := own_objects.controller(pod).get("uid"))), None)


def _key(manifest: Manifest) -> AttemptKey | None:
    own = labels(manifest)
    step, number = own.get(names.STEP), own.get(names.ATTEMPT, "")
    return AttemptKey(step, int(number)) if step and number.isdigit() else None
