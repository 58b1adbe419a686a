"""Whether a Job of the cluster does the work of the one that the operator would make. Pure.

What decides the work is compared: image, arguments, environment and mounts. Where its pods run is not, since a queue
may have changed that, nor what they ask for, since the chart may have.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

from slipway_core.protocol import variables
from slipway_core.resources.compute import Compute
from slipway_operator.kube.manifest import Manifest, at, items
from slipway_operator.manifests.pod import claims

_FILLED_IN = frozenset({"apiVersion", "defaultMode", "recursiveReadOnly", "mountPropagation"})
"""Fields that the API server adds to those of a manifest, below `env`, `volumes` and `volumeMounts`."""
_TOLD = frozenset(
    {
        variables.HELD_OUT_DIGEST_VARIABLE,
        variables.ARTIFACT_DIGEST_VARIABLE,
        variables.JUDGED_VARIABLE,
        variables.TRACKING_VARIABLE,
        variables.GRACE_VARIABLE,
    }
)
"""What a step is told of its inputs may stand in no record yet; what it found is held against the record later. Its
grace period is the chart's of the time when it was made."""
_OF_CONTAINER = ("command", "workingDir", "lifecycle")
_OF_POD = ("ephemeralContainers", "hostAliases", "dnsConfig", "hostNetwork", "hostPID")
"""Fields that no step of ours has: with each, the same image and arguments may do something else."""


def layout(there: Manifest, planned: Compute) -> Compute:
    """Returns where a run runs, with the nodes and processes that a Job of the cluster was made with, as it tells its
    own process; `planned` where it tells none."""
    told = {
        one.get("name"): str(one.get("value"))
        for container in items(at(there, "spec", "template", "spec"), "containers")
        for one in items(container, "env")
    }
    fields = {"nodes": variables.NODES_VARIABLE, "processes_per_node": variables.PROCESSES_VARIABLE}
    said = {name: told.get(variable, "") for name, variable in fields.items()}
    return planned.model_copy(update={name: int(text) for name, text in said.items() if text.isdecimal()})


def difference(there: Manifest, wanted: Manifest, *, but: tuple[str, ...] = ()) -> str | None:
    """Returns the first thing in which the pods of a Job would do other work; None where they would do the same.

    Args:
        there: the Job of the cluster, with its template.
        wanted: the Job that the operator would make.
        but: what does not count.
    """
    found = _first_difference(there, wanted, but)
    if found is None or _first_difference(there, _of_earlier_releases(wanted), but) is None:
        return None
    return found


def _first_difference(there: Manifest, wanted: Manifest, but: tuple[str, ...]) -> str | None:
    for name, found, meant in _compared(there, wanted):
        if found != meant and name not in but:
            return name
    return None


def _of_earlier_releases(job: Manifest) -> Manifest:
    """Returns a Job as releases made it that mounted whole claims: what it does is the same, and one that is under way
    while the operator is upgraded is not to be ended for that."""
    template = at(job, "spec", "template")
    pod = {name: value for name, value in at(template, "spec").items() if name != "initContainers"}
    pod["containers"] = [
        {**container, "volumeMounts": claims.as_whole(items(container, "volumeMounts"))}
        for container in items(pod, "containers")
    ]
    return {**job, "spec": {**at(job, "spec"), "template": {**template, "spec": pod}}}


def _compared(there: Manifest, wanted: Manifest) -> Iterator[tuple[str, Any, Any]]:
    yield "completions", at(there, "spec").get("completions", 1), at(wanted, "spec").get("completions", 1)
    pod, own = at(there, "spec", "template", "spec"), at(wanted, "spec", "template", "spec")
    for name in _OF_POD:
        yield name, pod.get(name) or None, own.get(name) or None
    for kind in ("containers", "initContainers"):
        found, meant = items(pod, kind), items(own, kind)
        yield f"number of {kind}", len(found), len(meant)
        # A number that does not count leaves the containers that both have.
        for one, other in zip(found, meant, strict=False):
            yield from _compared_containers(one, other)
    yield "volumes", _volumes(pod), _volumes(own)


def _compared_containers(there: Manifest, wanted: Manifest) -> Iterator[tuple[str, Any, Any]]:
    for name in ("name", "image", "args", "restartPolicy", *_OF_CONTAINER):
        yield name, there.get(name) or None, wanted.get(name) or None
    yield "env", _environment(there), _environment(wanted)
    for name in ("envFrom", "volumeMounts"):
        yield name, _plain(items(there, name)), _plain(items(wanted, name))


def _environment(container: Manifest) -> list[Any]:
    return [_plain(one) for one in items(container, "env") if one.get("name") not in _TOLD]


def _volumes(pod: Manifest) -> list[Any]:
    """Scratch is scratch, whatever its size."""
    return [_plain({**one, "emptyDir": "of any size"} if "emptyDir" in one else one) for one in items(pod, "volumes")]


def _plain(value: Any) -> Any:
    """Returns a value without what the API server fills in, and without fields that say nothing."""
    if isinstance(value, dict):
        fields = {name: _plain(held) for name, held in cast(Manifest, value).items() if name not in _FILLED_IN}
        return {name: held for name, held in fields.items() if held not in (None, "", False, [], {})}
    return [_plain(one) for one in cast(list[Any], value)] if isinstance(value, list) else value
