"""Which Jobs and pods are those of a run's attempts. Pure.

Labels are no proof: whoever may create a Job in the namespace writes them, and a copy of a Job would speak for the run.
The Job of an attempt is the one whose uid the record has; a pod is the attempt's when that Job controls it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from slipway_core.protocol.commands import Baseline
from slipway_core.resources.status import EndpointStatus, StepState, StepStatus
from slipway_operator import names
from slipway_operator.kube.manifest import Manifest, items, labels, notes


def controller(manifest: Manifest) -> Manifest:
    """Returns the ownerReference of an object's controller; an empty one where it has none."""
    owners = items(manifest, "metadata", "ownerReferences")
    return next((owner for owner in owners if owner.get("controller")), Manifest())


def claimed(jobs: Iterable[Manifest], run: str, uid: str) -> list[Manifest]:
    """Returns the Jobs that say they are an attempt of a run: named like one, labelled, and controlled by the run."""
    return [job for job in jobs if controller(job).get("uid") == uid and is_named_like_an_attempt(job, run)]


def is_named_like_an_attempt(job: Manifest, run: str) -> bool:
    """Whether a Job has the name that its labels make, of a step's attempt of a run."""
    own = labels(job)
    step, number = own.get(names.STEP), own.get(names.ATTEMPT, "")
    return bool(step) and number.isdigit() and job["metadata"]["name"] in names.jobs(run, step or "", int(number))


def is_recorded(job: Manifest, record: StepStatus) -> bool:
    """Whether a Job is the one that the record of a step has for its newest attempt.

    A release that recorded no uid made the attempts that run while it is upgraded: of those the name decides.
    """
    if labels(job).get(names.ATTEMPT) != str(record.attempt):
        return False
    if record.job is None:
        return record.state is StepState.RUNNING
    return job["metadata"].get("uid") == record.job


def pods_of(
    pods: Iterable[Manifest], run: str, jobs: Iterable[Manifest], records: Iterable[StepStatus]
) -> list[Manifest]:
    """Returns the pods that those Jobs control, and those of a recorded Job that was deleted: they may be ending."""
    uids = {job["metadata"]["uid"] for job in jobs} | {record.job for record in records if record.job}
    unrecorded = {
        name
        for record in records
        if record.job is None and record.state is StepState.RUNNING
        for name in names.jobs(run, record.name, record.attempt)
    }
    return [
        pod
        for pod in pods
        if (owner := controller(pod)).get("kind") == "Job"
        and (owner.get("uid") in uids or owner.get("name") in unrecorded)
    ]


def may_write(pod: Manifest, run: str, strangers: Iterable[str]) -> bool:
    """Whether a pod may be one of an attempt of its labels: as long as it has a process, no other attempt starts.

    Args:
        pod: with the labels of a step.
        run: the name of the run.
        strangers: uids of Jobs that are known to be nobody's of ours.
    """
    own, owner = labels(pod), controller(pod)
    step, number = own.get(names.STEP, ""), own.get(names.ATTEMPT, "")
    named = number.isdigit() and owner.get("name") in names.jobs(run, step, int(number))
    return owner.get("kind") == "Job" and named and owner.get("uid") not in set(strangers)


def baseline_of(job: Manifest, known: Mapping[str, Baseline]) -> Baseline | None:
    """Returns the live version that an evaluation says it compares with; None for none, or one that is not known."""
    return known.get(notes(job).get(names.BASELINE, ""))


def baselines(endpoint: EndpointStatus | None) -> dict[str, Baseline]:
    """Returns what an evaluation may have been told to compare with, by what its Job says of it."""
    if endpoint is None:
        return {}
    versions = [endpoint.live, *endpoint.history]
    found = [Baseline(one.uri, one.digest, one.credentials) for one in versions if one is not None]
    return {str(one): one for one in reversed(found)}
