"""Whether a cluster can take a run: reached, Slipway installed, this user allowed, the operator at work."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from slipway.cluster import client_settings
from slipway.cluster.attendance import Absence, Attendance, Presence, Unknown
from slipway.cluster.kubectl import INSTALL, ClusterError, Forbidden, Kubectl
from slipway.cluster.resources import ENDPOINTS, RUNS
from slipway.diagnosis.finding import Finding, Level

if TYPE_CHECKING:
    from slipway.cluster.target import ClusterTarget

NEEDED = (
    ("create", RUNS, "submit runs"),
    ("patch", RUNS, "stop runs"),
    ("patch", ENDPOINTS, "stop endpoints"),
    ("create", "pods", "submit local files and plot"),
    ("create", "pods/exec", "submit local files and plot"),
    ("list", "events", "be told why a pod does not start"),
    ("get", "pods/log", "read logs"),
    ("create", "pods/portforward", "chat"),
)
"""What the commands ask of the API server, and what for."""


_OPERATOR = {"app.kubernetes.io/name": "slipway", "app.kubernetes.io/component": "operator"}
"""Labels of its Deployment, by the chart."""


def diagnose(reach: Callable[[], ClusterTarget]) -> list[Finding]:
    """Returns what there is to say; it ends at the first thing without which the rest cannot be looked at."""
    try:
        target = reach()
        runs, endpoints = target.runs(), target.endpoints()
    except ClusterError as error:
        return [Finding(Level.PROBLEM, "cluster", "it cannot be used", fix=str(error))]
    figure = f"{_count(runs, 'run')}, {_count(endpoints, 'endpoint')}"
    unseen = [run for run in runs if run.status is None and target.idle(run)]
    return [
        Finding(Level.GOOD, "cluster", target.title, figure),
        *_rights(target.kubectl),
        *_installed(target.kubectl),
        *_attendance(Attendance(target.kubectl, target.clock), target.kubectl.namespace),
        *(
            Finding(Level.PROBLEM, "operator", "it does not look at new runs", f"run {run.name} has no status", idle)
            for run in unseen[:1]
            if (idle := target.idle(run))
        ),
    ]


def _count(found: Sequence[object], name: str) -> str:
    return f"{len(found)} {name}{'' if len(found) == 1 else 's'}"


def _installed(kubectl: Kubectl) -> Iterator[Finding]:
    """Looks for the operator, then for what the chart tells the command line, which is nowhere without it."""
    try:
        operators = replace(kubectl, everywhere=True).list("deployments", labels=_OPERATOR)
    except ClusterError:
        # Most users may not look into the namespace of the operator.
        yield from _client_settings(kubectl)
        return
    if not operators:
        yield Finding(
            Level.PROBLEM, "operator", "Slipway's operator is not installed",
            "the cluster knows Slipway's resources, and no namespace has a Deployment of the operator", INSTALL,
        )  # fmt: skip
        return
    yield _operator(operators[0])
    yield from _client_settings(kubectl)


def _attendance(attendance: Attendance, namespace: str) -> Iterator[Finding]:
    match attendance.of(namespace):
        case Presence(figure):
            yield Finding(Level.GOOD, "operator", f"it is at work, and looks after namespace {namespace}", figure)
        case Absence(title, figure, fix):
            yield Finding(Level.PROBLEM, "operator", title, figure, fix)
        case Unknown(why):
            fix = "ask whoever runs the cluster; clientSettings of the chart lets every user know"
            yield Finding(Level.NOTE, "operator", "whether it is at work is not known to this user", why, fix)


def _operator(deployment: Mapping[str, Any]) -> Finding:
    name, namespace = deployment["metadata"]["name"], deployment["metadata"].get("namespace", "")
    ready, wanted = deployment.get("status", {}).get("readyReplicas", 0), deployment.get("spec", {}).get("replicas", 1)
    figure = f"Deployment {name} in namespace {namespace}: {ready} of {wanted} replicas ready"
    if ready:
        return Finding(Level.GOOD, "operator", "it runs", figure)
    fix = (
        f"`kubectl scale deployment {name} -n {namespace} --replicas 1`"
        if wanted == 0
        else f"`kubectl describe pods -n {namespace}` and `kubectl logs deployment/{name} -n {namespace}` say why"
    )
    return Finding(Level.PROBLEM, "operator", "Slipway's operator does not run", figure, fix)


def _rights(kubectl: Kubectl) -> Iterator[Finding]:
    missing = [(verb, kind, purpose) for verb, kind, purpose in NEEDED if not _may(kubectl, verb, kind)]
    for verb, kind, purpose in missing:
        yield Finding(
            Level.PROBLEM, "rights", f"this user cannot {purpose}", f"no right to {verb} {kind} in {kubectl.title}",
            "ask whoever runs the cluster for it",
        )  # fmt: skip
    if not missing:
        yield Finding(Level.GOOD, "rights", "every command may do what it does")


def _may(kubectl: Kubectl, verb: str, kind: str) -> bool:
    resource, _, subresource = kind.partition("/")
    try:
        kubectl.run("auth", "can-i", verb, resource, *(["--subresource", subresource] if subresource else []))
    except ClusterError:
        return False
    return True


def _client_settings(kubectl: Kubectl) -> Iterator[Finding]:
    try:
        settings = client_settings.read(kubectl)
    except Forbidden as error:
        yield Finding(Level.NOTE, "train image", "it is not known to this user", fix=str(error))
    except ClusterError as error:
        yield Finding(Level.PROBLEM, "train image", "submit does not know which image takes files", fix=str(error))
    else:
        yield Finding(Level.GOOD, "train image", settings.image)
