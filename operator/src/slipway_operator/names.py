"""Names, labels and annotations of everything that the operator makes. The one place that knows them.

Those that the command line finds things by are in slipway_core.
"""

from __future__ import annotations

import hashlib
from typing import Final

from slipway_core.protocol.workspace import WORKSPACE_CLAIM as WORKSPACE_CLAIM
from slipway_core.protocol.workspace import run_folder as run_folder
from slipway_core.protocol.workspace import short_uid as short_uid
from slipway_core.resources.api import GROUP
from slipway_core.resources.labels import ATTEMPT as ATTEMPT
from slipway_core.resources.labels import DIGEST as DIGEST
from slipway_core.resources.labels import ENDPOINT as ENDPOINT
from slipway_core.resources.labels import FOLDER as FOLDER
from slipway_core.resources.labels import KEPT_BY as KEPT_BY
from slipway_core.resources.labels import LIMIT
from slipway_core.resources.labels import MANAGED_BY as MANAGED_BY
from slipway_core.resources.labels import MANAGED_BY_VALUE as MANAGED_BY_VALUE
from slipway_core.resources.labels import ORPHANED_AT as ORPHANED_AT
from slipway_core.resources.labels import REMOVING as REMOVING
from slipway_core.resources.labels import ROLE as ROLE
from slipway_core.resources.labels import RUN as RUN
from slipway_core.resources.labels import RUN_UID as RUN_UID
from slipway_core.resources.labels import STEP as STEP
from slipway_core.resources.labels import VERSION as VERSION
from slipway_core.resources.labels import digest_label as digest_label
from slipway_core.resources.labels import join as join
from slipway_core.resources.labels import label as label
from slipway_core.resources.labels import service as service

MANAGER: Final = "slipway-operator"
"""Field manager of every server-side apply, and the reporting component of Events."""

CHILDREN: Final = f"{MANAGED_BY}={MANAGED_BY_VALUE}"
"""Label selector of everything that the operator made: what it watches on the server's side."""

CLEANUP: Final = "cleanup"
"""Role of a Job that removes a run's folder."""

SIGNED_BY: Final = f"{GROUP}/signed-by"
"""Label: the key that signed the statement of a judgement."""
JUDGED_FOR: Final = f"{GROUP}/judged-for"
"""Label of a judgement: the endpoint that its run promotes to, shortened like a label's value. It is no child of it."""

BASELINE: Final = f"{GROUP}/baseline"
"""Annotation of an evaluate Job: the live version that it compares with, `uri@digest`."""
IMAGE: Final = f"{GROUP}/image"
"""Annotation of a step's Job: the image that the plan gives it. The cache keeps no Job's template."""
PROCESSES: Final = f"{GROUP}/processes-per-node"
"""Annotation of the Job of a stage: processes of each of its pods; completions are its nodes."""
PLACE: Final = f"{GROUP}/place"
"""Annotation of an attempt's Job: a mark of where the resource had it run when it was made."""
FROZEN: Final = f"{GROUP}/frozen"
"""Annotation of a version's Deployment: the version (VersionStatus) and its settings as they were when it was made."""
FROZEN_OF: Final = f"{FROZEN}-v"
"""How annotations of an endpoint's Service begin that have the same of a version, which may have no Deployment now."""

RUN_PREFIX: Final = "slipway-run-"
"""How the names of all Jobs begin, and so those of their pods: a request to execute something in a pod has its name and
nothing else, by which the chart's policies know it."""
SERVE_PREFIX: Final = "slipway-serve-"
"""How the names of the Deployments of versions begin, and so those of their pods."""

LABEL_LIMIT: Final = LIMIT
JOB_LIMIT: Final = 52
"""A Job's pods are called `<job>-<index>-<5 letters>`, and their host name `<job>-<index>` has 63 characters."""


def job(run: str, step: str, attempt: int) -> str:
    """Job of an attempt."""
    return join(f"{RUN_PREFIX}{run}", *_step(run, step), str(attempt), limit=JOB_LIMIT)


def jobs(run: str, step: str, attempt: int) -> tuple[str, str]:
    """What the Job of an attempt may be called: as `job` says, or as releases did that gave names no prefix."""
    return job(run, step, attempt), join(run, *_step(run, step), str(attempt), limit=JOB_LIMIT)


def rendezvous(run: str, step: str) -> str:
    """Headless Service of a stage on several nodes. Its attempts share it: no two of them run at once, and their pods
    have names of their own."""
    return service(join(run, *_step(run, step), "ranks", limit=JOB_LIMIT))


def _step(run: str, step: str) -> tuple[str, ...]:
    """A step with a dash in its name gets a hash: the stage `chat-sft` of the run `demo` is another than the stage
    `sft` of the run `demo-chat`."""
    return (step, hashlib.sha256(f"{run}/{step}".encode()).hexdigest()[:6]) if "-" in step else (step,)


def plan(run: str, uid: str) -> str:
    """ConfigMap that holds plan.json; it has the uid, so that a run of the same name never reads an older plan."""
    return join(run, "plan", short_uid(uid))


def verdict(digest: str) -> str:
    """ConfigMap by which a release that signed none said that an artifact passed."""
    return f"slipway-verdict-{digest.removeprefix('sha256:')[:32]}"


def judgement(digest: str, uid: str, evaluation: int) -> str:
    """ConfigMap that holds the statement of one judgement: of an artifact, by an evaluation of the run of this uid."""
    return f"{verdict(digest)}-{short_uid(uid)}-{evaluation}"


def version(endpoint: str, number: int) -> str:
    """Deployment of a version of an endpoint."""
    return versions(endpoint, number)[0]


def versions(endpoint: str, number: int) -> tuple[str, str]:
    """What that Deployment may be called: as `version` says, or as releases did that gave names no prefix."""
    plain = join(endpoint, f"v{number}", limit=JOB_LIMIT)
    return join(f"{SERVE_PREFIX}{endpoint}", f"v{number}", limit=JOB_LIMIT), plain


def endpoint(name: str) -> str:
    """PodDisruptionBudget, NetworkPolicy and HorizontalPodAutoscaler of an endpoint."""
    return name


def cleanup(run: str, uid: str, *, keep_artifact: bool = False) -> str:
    """Job that removes a run's folder, or all of it but the artifact; the one may follow the other."""
    return cleanups(run, uid, keep_artifact=keep_artifact)[0]


def cleanups(run: str, uid: str, *, keep_artifact: bool) -> tuple[str, str]:
    """What that Job may be called: as `cleanup` says, or as releases did that gave names no prefix."""
    what = ("trim" if keep_artifact else "cleanup", short_uid(uid))
    return join(f"{RUN_PREFIX}{run}", *what, limit=JOB_LIMIT), join(run, *what, limit=JOB_LIMIT)


def step_labels(run: str, uid: str, step: str, attempt: int) -> dict[str, str]:
    """Labels of an attempt's Job and pods."""
    return {**stage_labels(run, uid, step), ATTEMPT: str(attempt)}


def stage_labels(run: str, uid: str, step: str) -> dict[str, str]:
    """Labels of what all attempts of a step share."""
    return {**run_labels(run, uid, "step"), STEP: step}


def run_labels(run: str, uid: str, role: str) -> dict[str, str]:
    return {MANAGED_BY: MANAGED_BY_VALUE, ROLE: role, RUN: label(run), RUN_UID: uid}


def endpoint_labels(endpoint: str) -> dict[str, str]:
    return {MANAGED_BY: MANAGED_BY_VALUE, ROLE: "serve", ENDPOINT: label(endpoint)}


def version_labels(endpoint: str, number: int) -> dict[str, str]:
    """Labels of a version's Deployment and pods, and its selector."""
    return {**endpoint_labels(endpoint), VERSION: str(number)}
