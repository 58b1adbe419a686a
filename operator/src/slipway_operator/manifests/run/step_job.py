"""The Job of one attempt of a step: prepare, a training stage, export, evaluate or publish."""

from __future__ import annotations

from dataclasses import dataclass

from slipway_core.plan import Plan
from slipway_core.protocol import exit_codes
from slipway_core.protocol.commands import Baseline, Inputs
from slipway_core.resources import pod_security
from slipway_core.resources.api import seconds
from slipway_core.resources.stage import FIXED_STEPS
from slipway_operator import names
from slipway_operator.kube.manifest import Manifest
from slipway_operator.manifests.owner import Owner
from slipway_operator.manifests.pod import claims, placement, scratch, template
from slipway_operator.manifests.run import step_sources
from slipway_operator.manifests.run.place_mark import place_mark
from slipway_operator.manifests.run.step_container import CONTAINER, PLAN_MOUNT, step_container
from slipway_operator.manifests.run.sub_paths import sub_paths
from slipway_operator.settings import Settings

QUEUE_LABEL = "kueue.x-k8s.io/queue-name"


@dataclass(frozen=True)
class _Attempt:
    plan: Plan
    step: str
    number: int
    claim: str
    baseline: Baseline | None
    inputs: Inputs
    name: str
    """Of the Job, by which its pods find each other."""

    @property
    def pods(self) -> int:
        return 1 if self.step in FIXED_STEPS else self.plan.compute.nodes

    @property
    def labels(self) -> dict[str, str]:
        return names.step_labels(self.plan.run.name, self.plan.run.uid, self.step, self.number)


def step_job(
    plan: Plan,
    owner: Owner,
    step: str,
    attempt: int,
    *,
    settings: Settings,
    claim: str,
    baseline: Baseline | None = None,
    inputs: Inputs | None = None,
    name: str | None = None,
) -> Manifest:
    """Returns the Job. It is only ever created: the next attempt is another Job, which the lifecycle starts.

    It has no TTL: `kubectl logs` finds the pods of a step's last attempts for as long as its run is there.

    Args:
        plan: of the run.
        owner: the run.
        step: one of plan.steps.
        attempt: from 1.
        settings: of the operator.
        claim: the PersistentVolumeClaim of the workspace.
        baseline: the live version, for evaluate.
        inputs: what the step is told of that which it finds in the workspace.
        name: of the Job, where another release gave it another one.

    Raises ManifestError when two Secrets of the step contradict each other, and for a pod template that is unknown.
    """
    own = _Attempt(
        plan, step, attempt, claim, baseline, inputs or Inputs(), name or names.job(plan.run.name, step, attempt)
    )
    metadata: Manifest = {
        "name": own.name,
        "namespace": plan.run.namespace,
        "labels": own.labels,
        "annotations": {
            names.IMAGE: plan.images.train,
            names.PLACE: place_mark(plan, step),
            names.FOLDER: plan.place,
            **({names.BASELINE: str(baseline)} if baseline else {}),
            **({} if step in FIXED_STEPS else {names.PROCESSES: str(plan.compute.processes_per_node)}),
        },
        "ownerReferences": [owner.reference()],
    }
    spec: Manifest = {
        "completionMode": "Indexed",
        "completions": own.pods,
        "parallelism": own.pods,
        # The ranks of an attempt live and die together.
        "backoffLimit": 0,
        "podReplacementPolicy": "Failed",
        "podFailurePolicy": _pod_failure_policy(),
        "template": {
            "metadata": placement.metadata(plan.compute, settings.training, own.labels),
            "spec": _pod(own, settings),
        },
    }
    if plan.compute.queue is not None:
        metadata["labels"][QUEUE_LABEL] = plan.compute.queue
        # No pod may start in the moment before the queue looks at the Job.
        spec["suspend"] = True
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec}


def _pod_failure_policy() -> Manifest:
    """Says in the Job's own words why it failed. `backoffLimit: 0` alone would end it as well, without a reason."""
    codes = [exit_codes.BAD_INPUT, exit_codes.RESTARTABLE, exit_codes.LOST_PEERS]
    return {
        "rules": [
            {"action": "FailJob", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
            {"action": "FailJob", "onExitCodes": {"containerName": CONTAINER, "operator": "In", "values": codes}},
        ]
    }


def _pod(own: _Attempt, settings: Settings) -> Manifest:
    run = own.plan.run
    sources = step_sources.of(own.plan, own.step, own.baseline)
    first = sub_paths(own.plan, own.step, sources, workspace=own.claim, settings=settings)
    read = claims.named(source.uri for source in sources)
    pod: Manifest = {
        **pod_security.no_cluster_access(),
        **placement.placement(own.plan.compute, settings.training, settings.images.pull_secrets),
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": seconds(settings.training.grace),
        "securityContext": pod_security.pod_security(),
        **({"initContainers": first} if first else {}),
        "containers": [
            {
                **step_container(
                    own.plan,
                    own.step,
                    own.number,
                    sources=sources,
                    settings=settings,
                    baseline=own.baseline,
                    inputs=own.inputs,
                    job=own.name,
                ),
                "volumeMounts": [
                    *claims.mounts(own.claim, own.plan.workspace_folder, read),
                    PLAN_MOUNT,
                    *scratch.mounts(),
                ],
            }
        ],
        "volumes": [
            *claims.volumes(own.claim, read),
            {"name": PLAN_MOUNT["name"], "configMap": {"name": names.plan(run.name, run.uid)}},
            *scratch.volumes(settings.training.shared_memory),
        ],
    }
    if own.pods > 1:
        pod["subdomain"] = names.rendezvous(run.name, own.step)
        # The ranks know each other by addresses; a host name beyond 63 characters would keep the pods from starting.
        pod["setHostnameAsFQDN"] = False
    return template.applied(pod, template.chosen(own.plan.compute, settings.training), own.labels)
