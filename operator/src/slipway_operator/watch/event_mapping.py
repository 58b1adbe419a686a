"""Which passes an event is worth. Pure.

Most events about a Job or a pod say nothing that a pass reads: that it was scheduled, that its IP is known, that its
finalizer is gone. Of the 10 or so of one attempt two or three wake its run.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from slipway_core.resources.status import Phase, Verdict
from slipway_operator import names
from slipway_operator.cache.key import Key
from slipway_operator.cache.world import OWN_KEYS, World
from slipway_operator.kube import kinds
from slipway_operator.kube.kinds import CONFIG_MAP, JOB, MODEL_ENDPOINT, POD, TRAINING_RUN
from slipway_operator.kube.manifest import Manifest, at, items, job_end, labels

_STARTING = frozenset({"", "ContainerCreating", "PodInitializing"})
_LOOKS_AT_ENDPOINT = frozenset(
    {Phase.EVALUATING, Phase.SUSPENDED, Phase.ROLLING_OUT, Phase.AWAITING_APPROVAL, Phase.SERVING}
)
"""Phases of a run that an endpoint may change, or that a pass may leave for one of those. The thousand runs that still
train look at the endpoint when they get there."""
_NEXT_REMOVALS = 4
"""Of those that wait to have a folder removed, how many are looked at when a removal ends: several may at once."""


def woken(world: World, before: Manifest | None, after: Manifest | None) -> Iterable[Key]:
    """Yields the keys to look at. `after` is None for an object that is gone; the world has taken the event already."""
    manifest = after or before
    if manifest is None or (after is not None and read(before, after["kind"]) == read(after, after["kind"])):
        return
    owner = world.owner(manifest)
    if owner is not None:
        yield owner
    kind, namespace = manifest["kind"], at(manifest, "metadata").get("namespace", "")
    if kind == MODEL_ENDPOINT.kind:
        told = at(manifest, "spec", "model").get("run")
        for run in world.runs_for(namespace, manifest["metadata"]["name"]):
            name = run["metadata"]["name"]
            # The run that it was told of last is told of all, also when it was over: a rollout that failed may be
            # tried again, and a version that was replaced may come back.
            if name == told or at(run, "status").get("phase") in _LOOKS_AT_ENDPOINT:
                yield Key("TrainingRun", namespace, name)
        # What it named may have to stay no longer.
        yield Key("Namespace", namespace, namespace)
    if after is not None and _is_owned(before) and not _is_owned(after):
        # Whose it was may be gone already, and then no pass but this one looks at it.
        yield Key("Namespace", namespace, namespace)
    if kind == TRAINING_RUN.kind and after is None:
        yield Key("Namespace", namespace, namespace)
    if kind == TRAINING_RUN.kind:
        yield from _waits_for_model(world, namespace, manifest["metadata"]["name"])
        yield from _waits_for_verdict(world, namespace, before, after)
    # Something ended, or was made where there was no room: there may be room for more.
    if kind not in OWN_KEYS and (before is None or after is None or _has_ended(after)):
        first = world.waiting.first(namespace)
        if first is not None and first != owner:
            yield first
    if kind == POD.kind and owner is not None and owner.kind == "Namespace" and (after is None or _has_ended(after)):
        yield from _waits_for_folder(world, namespace, labels(manifest).get(names.RUN, ""))
    if kind == JOB.kind and labels(manifest).get(names.ROLE) == names.CLEANUP and (after is None or _has_ended(after)):
        yield from world.removals.first(_NEXT_REMOVALS)
    if kind in (TRAINING_RUN.kind, MODEL_ENDPOINT.kind) and after is None:
        # There is room for those that were one too many.
        yield from world.next_in(kinds.of(manifest), namespace)
    if kind == CONFIG_MAP.kind and (digest := labels(manifest).get(names.DIGEST)) and after is None:
        # Somebody may have removed what a run said: it says it again.
        for run in world.all(TRAINING_RUN, namespace):
            if str(at(run, "status", "artifact").get("digest", "")).removeprefix("sha256:").startswith(digest):
                yield Key("TrainingRun", namespace, run["metadata"]["name"])
    if kind == CONFIG_MAP.kind and (digest := labels(manifest).get(names.DIGEST)):
        for endpoint in world.all(MODEL_ENDPOINT, namespace):
            if str(at(endpoint, "spec", "model").get("digest", "")).removeprefix("sha256:").startswith(digest):
                yield Key("ModelEndpoint", namespace, endpoint["metadata"]["name"])


def _waits_for_model(world: World, namespace: str, run: str) -> Iterable[Key]:
    """Yields the runs that start from the model of another one and are not planned yet: it may have one by now."""
    for other in world.starting_from(namespace, f"run://{run}"):
        if not at(other, "status").get("planDigest"):
            yield Key("TrainingRun", namespace, other["metadata"]["name"])


def _waits_for_folder(world: World, namespace: str, run: str) -> Iterable[Key]:
    """Yields a run that is not planned yet: it may wait for the folder of an earlier one, whose pods are ending."""
    name = world.run_called(namespace, run)
    if name is not None and not at(world.get(TRAINING_RUN, namespace, name), "status").get("planDigest"):
        yield Key("TrainingRun", namespace, name)


def _waits_for_verdict(world: World, namespace: str, before: Manifest | None, after: Manifest | None) -> Iterable[Key]:
    """Yields the endpoints that were told the model which a run says now that it passed."""
    judged = at(after, "status", "evaluation")
    if judged == at(before, "status", "evaluation") or judged.get("verdict") != Verdict.PASS.value:
        return
    for endpoint in world.all(MODEL_ENDPOINT, namespace):
        if at(endpoint, "spec", "model").get("digest") == judged.get("artifactDigest"):
            yield Key("ModelEndpoint", namespace, endpoint["metadata"]["name"])


def _is_owned(manifest: Manifest | None) -> bool:
    return bool(at(manifest, "metadata").get("ownerReferences"))


def _has_ended(manifest: Manifest) -> bool:
    return job_end(manifest) is not None or at(manifest, "status").get("phase") in ("Succeeded", "Failed")


def read(manifest: Manifest | None, kind: str) -> Any:
    """Returns what a pass reads of an object. A pod that was just made reads like none."""
    if kind == POD.kind:
        return _pod(manifest)
    if manifest is None:
        return None
    return _job(manifest) if kind == JOB.kind else _whole(manifest)


def _pod(pod: Manifest | None) -> Any:
    status = at(pod, "status")
    containers = [*items(status, "initContainerStatuses"), *items(status, "containerStatuses")]
    return (
        at(pod, "metadata").get("deletionTimestamp"),
        status.get("phase") or "Pending",
        status.get("reason"),
        [told for condition in items(status, "conditions") if (told := _pod_condition(condition))],
        [told for container in containers if (told := _container(container))],
    )


def _pod_condition(condition: Manifest) -> Any:
    match condition.get("type"), condition.get("status"):
        case "PodScheduled", "False":
            return "PodScheduled", condition.get("reason"), condition.get("message")
        case ("Ready" | "DisruptionTarget") as type_, "True":
            return type_, condition.get("reason"), condition.get("message")
        case _:
            return None


def _container(container: Manifest) -> Any:
    state = at(container, "state")
    waiting = at(state, "waiting")
    if "running" not in state and "terminated" not in state and waiting.get("reason", "") in _STARTING:
        return None
    ended = at(state, "terminated")
    return (
        container.get("name"),
        "running" in state,
        waiting.get("reason"),
        waiting.get("message"),
        ended.get("exitCode"),
        ended.get("message"),
        container.get("ready"),
        container.get("restartCount"),
    )


def _job(job: Manifest) -> Any:
    ended = [
        (condition.get("type"), condition.get("reason"), condition.get("message"))
        for condition in items(job, "status", "conditions")
        if condition.get("status") == "True" and condition.get("type") in ("Complete", "Failed")
    ]
    return at(job, "metadata").get("deletionTimestamp"), _is_owned(job), bool(at(job, "spec").get("suspend")), ended


def _whole(manifest: Manifest) -> Any:
    metadata = {name: value for name, value in at(manifest, "metadata").items() if name != "resourceVersion"}
    return {**manifest, "metadata": metadata}
