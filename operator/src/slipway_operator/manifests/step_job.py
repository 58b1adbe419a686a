"""The Job of one attempt of a step: prepare, a training stage, export or evaluate."""

from __future__ import annotations

from slipway_core import exit_codes, protocol
from slipway_core.api import seconds
from slipway_core.commands import STEP_COMMANDS, step_command
from slipway_core.plan import Plan
from slipway_core.workspace import WORKSPACE_MOUNT
from slipway_operator import names
from slipway_operator.manifest import Manifest
from slipway_operator.manifests import claims, credentials, environment, pod_security, scratch, step_sources
from slipway_operator.manifests.owner import Owner
from slipway_operator.manifests.plan_config_map import PLAN_KEY
from slipway_operator.manifests.step_resources import step_resources
from slipway_operator.settings import Settings

CONTAINER = "trainer"
PROGRESS_PORT = 9400
MASTER_PORT = 29400
PLAN_FOLDER = "/etc/slipway/plan"
QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
_INDEX = "metadata.labels['batch.kubernetes.io/job-completion-index']"
_TERMINATION_LOG = "/dev/termination-log"


def step_job(
    plan: Plan, owner: Owner, step: str, attempt: int, *, settings: Settings, claim: str, baseline: str | None = None
) -> Manifest:
    """Returns the Job. It is only ever created: the next attempt is another Job.

    It lives as long as its run, so that `kubectl logs` finds what ended; the lifecycle starts the next attempt, never
    the Job itself.

    Args:
        plan: of the run.
        owner: the run.
        step: one of plan.steps.
        attempt: from 1.
        settings: of the operator.
        claim: the PersistentVolumeClaim of the workspace.
        baseline: `uri@digest` of the live version, for evaluate.

    Raises ManifestError when two Secrets of the step contradict each other.
    """
    labels = names.step_labels(plan.run.name, plan.run.uid, step, attempt)
    metadata: Manifest = {
        "name": names.job(plan.run.name, step, attempt),
        "namespace": plan.run.namespace,
        "labels": dict(labels),
        "ownerReferences": [owner.reference()],
    }
    if baseline is not None:
        metadata["annotations"] = {names.BASELINE: baseline}
    pods = _pods(plan, step)
    spec: Manifest = {
        "completionMode": "Indexed",
        "completions": pods,
        "parallelism": pods,
        # The ranks of an attempt live and die together.
        "backoffLimit": 0,
        "podReplacementPolicy": "Failed",
        "podFailurePolicy": _pod_failure_policy(),
        "template": {"metadata": {"labels": labels}, "spec": _pod(plan, step, attempt, settings, claim, baseline)},
    }
    if plan.compute.queue is not None:
        metadata["labels"][QUEUE_LABEL] = plan.compute.queue
        # No pod may start in the moment before the queue looks at the Job.
        spec["suspend"] = True
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec}


def _pods(plan: Plan, step: str) -> int:
    return plan.compute.nodes if step not in STEP_COMMANDS else 1


def _pod_failure_policy() -> Manifest:
    """Says in the Job's own words why it failed. `backoffLimit: 0` alone would end it as well, without a reason."""
    codes = [exit_codes.BAD_INPUT, exit_codes.RESTARTABLE, exit_codes.LOST_PEERS]
    return {
        "rules": [
            {"action": "FailJob", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
            {"action": "FailJob", "onExitCodes": {"containerName": CONTAINER, "operator": "In", "values": codes}},
        ]
    }


def _pod(plan: Plan, step: str, attempt: int, settings: Settings, claim: str, baseline: str | None) -> Manifest:
    compute, run = plan.compute, plan.run
    sources = step_sources.of(plan, step, baseline)
    read = claims.named(source.uri for source in sources)
    pod: Manifest = {
        **pod_security.no_cluster_access(),
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": seconds(settings.training.grace),
        "securityContext": pod_security.pod_security(),
        "containers": [_container(plan, step, attempt, settings, claim, baseline)],
        "volumes": [
            *claims.volumes(claim, read),
            {"name": "plan", "configMap": {"name": names.plan(run.name, run.uid)}},
            *scratch.volumes(settings.training.shared_memory),
        ],
    }
    if _pods(plan, step) > 1:
        pod["subdomain"] = names.rendezvous(run.name, step, attempt)
        pod["setHostnameAsFQDN"] = False
    if compute.node_selector:
        pod["nodeSelector"] = dict(compute.node_selector)
    if compute.tolerations:
        pod["tolerations"] = [toleration.to_document() for toleration in compute.tolerations]
    if compute.priority_class_name is not None:
        pod["priorityClassName"] = compute.priority_class_name
    if settings.images.pull_secrets:
        pod["imagePullSecrets"] = [{"name": secret} for secret in settings.images.pull_secrets]
    return pod


def _container(plan: Plan, step: str, attempt: int, settings: Settings, claim: str, baseline: str | None) -> Manifest:
    run = plan.run
    sources = step_sources.of(plan, step, baseline)
    secrets = credentials.container_part(sources)
    folder = f"{WORKSPACE_MOUNT}/{names.run_folder(run.name, run.uid)}"
    return {
        "name": CONTAINER,
        "image": plan.images.train or settings.images.train,
        "imagePullPolicy": settings.images.pull_policy,
        "args": step_command(
            step, plan=f"{PLAN_FOLDER}/{PLAN_KEY}", attempt=attempt, workspace=folder, baseline=baseline
        ),
        "env": [
            *environment.values(scratch.variables()),
            *environment.values(
                {
                    protocol.RESULT_VARIABLE: _TERMINATION_LOG,
                    protocol.PROGRESS_PORT_VARIABLE: str(PROGRESS_PORT),
                    protocol.GRACE_VARIABLE: str(seconds(settings.training.grace)),
                    "SLIPWAY_CLAIMS": claims.CLAIMS,
                }
            ),
            environment.from_field(protocol.PROGRESS_HOST_VARIABLE, "status.podIP"),
            *_rendezvous(plan, step, attempt),
            *secrets["env"],
        ],
        "envFrom": secrets["envFrom"],
        "ports": [{"name": "progress", "containerPort": PROGRESS_PORT}],
        "resources": step_resources(plan, step, settings),
        "securityContext": pod_security.container_security(),
        "terminationMessagePath": _TERMINATION_LOG,
        "terminationMessagePolicy": "File",
        "volumeMounts": [
            *claims.mounts(claim, claims.named(source.uri for source in sources)),
            {"name": "plan", "mountPath": PLAN_FOLDER, "readOnly": True},
            *scratch.mounts(),
        ],
    }


def _rendezvous(plan: Plan, step: str, attempt: int) -> list[Manifest]:
    if _pods(plan, step) == 1:
        return []
    run = plan.run
    master = f"{names.job(run.name, step, attempt)}-0.{names.rendezvous(run.name, step, attempt)}"
    return [
        environment.from_field("SLIPWAY_NODE_RANK", _INDEX),
        *environment.values({"SLIPWAY_MASTER_ADDR": master, "SLIPWAY_MASTER_PORT": str(MASTER_PORT)}),
    ]
