"""Names, labels and annotations of everything that the operator makes. The one place that knows them."""

from __future__ import annotations

import hashlib
from typing import Final

from slipway_core.api import GROUP

MANAGER: Final = "slipway-operator"
"""Field manager of every server-side apply, and the reporting component of Events."""

MANAGED_BY: Final = "app.kubernetes.io/managed-by"
MANAGED_BY_VALUE: Final = "slipway"
CHILDREN: Final = f"{MANAGED_BY}={MANAGED_BY_VALUE}"
"""Label selector of everything that the operator made: what it watches on the server's side."""

RUN: Final = f"{GROUP}/run"
RUN_UID: Final = f"{GROUP}/run-uid"
ROLE: Final = f"{GROUP}/role"
"""plan, step, verdict, cleanup, serve or upload."""
STEP: Final = f"{GROUP}/step"
ATTEMPT: Final = f"{GROUP}/attempt"
ENDPOINT: Final = f"{GROUP}/endpoint"
VERSION: Final = f"{GROUP}/version"
DIGEST: Final = f"{GROUP}/digest"
"""Label: the first 63 hex digits of an artifact's digest, on its verdict."""

RUN_CREATED: Final = f"{GROUP}/run-created"
"""Annotation of a ModelEndpoint: creationTimestamp of the run that it was last told to serve."""
RUN_UID_ANNOTATION: Final = f"{GROUP}/run-uid"
BASELINE: Final = f"{GROUP}/baseline"
"""Annotation of an evaluate Job: the live version that it compares with, `uri@digest`."""
FROZEN: Final = f"{GROUP}/frozen"
"""Annotation of a version's Deployment: the version (VersionStatus) and its settings as they were when it was made."""

WORKSPACE_CLAIM: Final = "slipway-workspace"

LABEL_LIMIT: Final = 63
JOB_LIMIT: Final = 52
"""A Job's pods are called `<job>-<index>-<5 letters>`, and their host name `<job>-<index>` has 63 characters."""
_HASH: Final = 8


def join(*parts: str, limit: int = LABEL_LIMIT) -> str:
    """Returns the parts joined by `-`; what is too long is cut and told apart by a hash of the whole."""
    whole = "-".join(parts)
    if len(whole) <= limit:
        return whole
    digest = hashlib.sha256(whole.encode()).hexdigest()[:_HASH]
    return f"{whole[: limit - _HASH - 1].rstrip('-.')}-{digest}"


def label(value: str) -> str:
    """Returns a text as a label's value: at most 63 characters, told apart by a hash when it was cut."""
    return join(value)


def short_uid(uid: str) -> str:
    return uid.replace("-", "")[:8]


def run_folder(run: str, uid: str) -> str:
    """Folder of a run in its workspace claim."""
    return f"{run}-{short_uid(uid)}"


def job(run: str, step: str, attempt: int) -> str:
    return join(run, step, str(attempt), limit=JOB_LIMIT)


def plan(run: str, uid: str) -> str:
    """ConfigMap that holds plan.json; it has the uid, so that a run of the same name never reads an older plan."""
    return join(run, "plan", short_uid(uid))


def verdict(digest: str) -> str:
    """ConfigMap that says that an artifact passed."""
    return f"slipway-verdict-{digest.removeprefix('sha256:')[:32]}"


def version(endpoint: str, number: int) -> str:
    """Deployment of a version of an endpoint."""
    return join(endpoint, f"v{number}", limit=JOB_LIMIT)


def endpoint(name: str) -> str:
    """Service, PodDisruptionBudget, NetworkPolicy and HorizontalPodAutoscaler of an endpoint."""
    return name


def cleanup(run: str, uid: str) -> str:
    return join(run, "cleanup", short_uid(uid), limit=JOB_LIMIT)


def step_labels(run: str, uid: str, step: str, attempt: int) -> dict[str, str]:
    """Labels of an attempt's Job and pods."""
    return {**run_labels(run, uid, "step"), STEP: step, ATTEMPT: str(attempt)}


def run_labels(run: str, uid: str, role: str) -> dict[str, str]:
    return {MANAGED_BY: MANAGED_BY_VALUE, ROLE: role, RUN: label(run), RUN_UID: uid}


def endpoint_labels(endpoint: str) -> dict[str, str]:
    return {MANAGED_BY: MANAGED_BY_VALUE, ROLE: "serve", ENDPOINT: label(endpoint)}


def version_labels(endpoint: str, number: int) -> dict[str, str]:
    """Labels of a version's Deployment and pods, and its selector."""
    return {**endpoint_labels(endpoint), VERSION: str(number)}
