"""Every manifest against a real API server, and what its controllers make of a Job and of an apply."""

from __future__ import annotations

from typing import Any

import pytest
from tests.integration.api_client import eventually
from tests.integration.control_plane import ControlPlane
from tests.unit.operator.manifests import samples
from tests.unit.operator.manifests.samples import DIGEST, a_deployment, a_job, a_plan, a_run, an_endpoint

from slipway_core.lifecycle.decision import Promote
from slipway_operator import names
from slipway_operator.kube.kinds import DEPLOYMENT, JOB, MODEL_ENDPOINT, NAMESPACE, POD, Kind
from slipway_operator.manifests.endpoint.deployment import scaled
from slipway_operator.manifests.endpoint.network_policy import network_policy
from slipway_operator.manifests.run import same_work
from slipway_operator.manifests.run.model_endpoint import model_endpoint
from slipway_operator.settings import Settings

LONGEST = {"run": "7" + "x" * 62, "stage": "9" + "y" * 62, "endpoint": "5" + "z" * 62}
NOWHERE = {"nodeSelector": {"test.slipway.dev/node": "none"}}
"""Keeps pods Pending, so that what they are is what the test says."""
WANTED = (
    {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "trainers"}},
    {"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": "nvidia"}, "handler": "nvidia"},
    {
        "apiVersion": "scheduling.k8s.io/v1",
        "kind": "PriorityClass",
        "metadata": {"name": "batch"},
        "value": 0,
    },
)
"""What the pod template and the defaults of the samples name."""
REPLICA_SET = Kind("apps/v1", "ReplicaSet", "replicasets")
Manifest = dict[str, Any]


def there(manifest: Manifest, namespace: str) -> Manifest:
    """The manifest in a namespace, without its owner, whose absence the garbage collector would notice."""
    metadata = {name: value for name, value in manifest["metadata"].items() if name != "ownerReferences"}
    return {**manifest, "metadata": {**metadata, "namespace": namespace}}


@pytest.mark.parametrize("long", [{}, LONGEST], ids=["short", "longest"])
def test_invariant_h_the_api_server_takes_every_object_and_each_pod_as_restricted(
    control_plane: ControlPlane, namespace: str, long: dict[str, str]
) -> None:
    enforced = {"pod-security.kubernetes.io/enforce": "restricted"}
    control_plane.api.merge(NAMESPACE, None, namespace, {"metadata": {"labels": enforced}})
    for wanted in WANTED:
        # Those of the cluster may be there of the other case.
        control_plane.api.apply(wanted, namespace if wanted["kind"] == "ServiceAccount" else None)
    for manifest in samples.everything(**long):
        control_plane.api.create(there(manifest, namespace), namespace, dry_run=True)
        for pod in samples.pod_specs([manifest]):
            # Pod Security refuses pods alone; of a Job or a Deployment it only warns.
            meta = {"name": "pod", "namespace": namespace}
            made = {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": pod}
            control_plane.api.create(made, namespace, dry_run=True)


@pytest.mark.parametrize("access", [{"keysSecret": "keys"}, {"anonymous": True}, {}], ids=["keys", "everybody", "near"])
def test_F_a_network_policy_is_kept_as_it_was_made_so_that_no_pass_writes_it_again(
    control_plane: ControlPlane, namespace: str, access: dict[str, Any]
) -> None:
    peers = [
        {"namespaceSelector": {"matchLabels": {}, "matchExpressions": []}, "podSelector": {"matchLabels": {"a": "b"}}},
        {"podSelector": {"matchExpressions": [{"key": "a", "operator": "In", "values": ["b"]}]}},
        {"namespaceSelector": {"matchExpressions": [{"key": "a", "operator": "Exists", "values": []}]}},
        {"ipBlock": {"cidr": "10.0.0.0/8", "except": []}},
        {"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}},
    ]
    settings = Settings.model_validate({"networkPolicy": {"metricsFrom": peers}}, by_alias=True)
    policy = there(network_policy(an_endpoint(access=access), settings), namespace)
    made = control_plane.api.create(policy, namespace)
    assert made["spec"] == policy["spec"]


MANY = [f"pvc://corpus/sft:{n}/{name}" for n in range(3) for name in ("a b,c.jsonl", "*.jsonl", "文/x.jsonl")]


@pytest.mark.parametrize("uris", [["pvc://corpus/sft/train.jsonl", "pvc://slipway-workspace/inputs/1"], MANY])
def test_invariant_h_the_api_server_takes_the_mounts_of_whatever_a_run_names(
    control_plane: ControlPlane, namespace: str, uris: list[str]
) -> None:
    data = {"train": [{"uri": uri} for uri in uris]}
    job = there(a_job(a_plan(stages=[{"name": "learn", "data": data}]), "prepare"), namespace)
    made = control_plane.api.create(job, namespace, dry_run=True)
    assert same_work.difference(made, job) is None, "what the API server fills in is no other work"


class Attempt:
    """A Job of a training attempt whose pods wait, and what becomes of it."""

    def __init__(self, plane: ControlPlane, namespace: str, *, pods: int = 1) -> None:
        self.api, self.namespace = plane.api, namespace
        job = there(a_job(a_plan(compute={"nodes": pods, **NOWHERE})), namespace)
        self.name = job["metadata"]["name"]
        self.api.create(job, namespace)
        eventually(lambda: len(self.pods) == pods, f"the Job has {pods} pods")

    @property
    def pods(self) -> list[str]:
        found = self.api.list(POD, self.namespace, f"{names.RUN}=demo")
        return sorted(pod["metadata"]["name"] for pod in found)

    def fails(self, pod: str, *, code: int, conditions: list[Manifest] | None = None) -> None:
        """Says of a pod what a kubelet says of one whose process ended."""
        ended = {"exitCode": code, "reason": "Error", "finishedAt": "2026-01-01T00:00:00Z"}
        container = {"name": "trainer", "image": "i", "imageID": "i", "ready": False, "restartCount": 0}
        status: Manifest = {"phase": "Failed", "containerStatuses": [{**container, "state": {"terminated": ended}}]}
        status |= {"conditions": conditions} if conditions else {}
        self.api.merge(POD, self.namespace, pod, {"status": status}, subresource="status")

    def failed(self) -> str:
        """Waits until the Job has failed, and returns why."""
        return eventually(lambda: self._condition("Failed"), "the Job has failed", seconds=60)

    def _condition(self, type_: str) -> str | None:
        job = self.api.get(JOB, self.namespace, self.name) or {}
        conditions = job.get("status", {}).get("conditions", [])
        return next((one["reason"] for one in conditions if one["type"] == type_), None)


@pytest.mark.parametrize(
    ("code", "conditions", "reason"),
    [
        (2, None, "PodFailurePolicy"),
        (75, None, "PodFailurePolicy"),
        (1, None, "BackoffLimitExceeded"),
        (143, [{"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI"}], "PodFailurePolicy"),
    ],
    ids=["bad input", "restartable", "crashed", "evicted"],
)
def test_a_pod_that_fails_ends_its_job_and_is_not_replaced(
    control_plane: ControlPlane, namespace: str, code: int, conditions: list[Manifest] | None, reason: str
) -> None:
    attempt = Attempt(control_plane, namespace)
    (pod,) = attempt.pods
    attempt.fails(pod, code=code, conditions=conditions)
    assert attempt.failed() == reason
    assert attempt.pods == [pod], "it stays for its logs, and no other comes"


def test_a_pod_that_is_deleted_ends_its_job_and_is_not_replaced(control_plane: ControlPlane, namespace: str) -> None:
    attempt = Attempt(control_plane, namespace)
    (pod,) = attempt.pods
    control_plane.api.delete(POD, namespace, pod)
    attempt.failed()
    assert set(attempt.pods) <= {pod}


def test_one_pod_of_two_takes_the_other_with_it(control_plane: ControlPlane, namespace: str) -> None:
    attempt = Attempt(control_plane, namespace, pods=2)
    first, _ = attempt.pods
    attempt.fails(first, code=1)
    attempt.failed()
    assert attempt.pods == [first]


def test_a_job_with_a_queue_starts_nothing(control_plane: ControlPlane, namespace: str) -> None:
    job = there(a_job(a_plan(compute={"queue": "team-a"})), namespace)
    name = control_plane.api.create(job, namespace)["metadata"]["name"]

    def conditions() -> list[str]:
        found = control_plane.api.get(JOB, namespace, name) or {}
        return [one["type"] for one in found.get("status", {}).get("conditions", [])]

    assert eventually(conditions, "the Job's controller has looked at it") == ["Suspended"]
    assert control_plane.api.list(POD, namespace) == []


def test_a_second_promotion_leaves_the_settings_of_the_endpoint(control_plane: ControlPlane, namespace: str) -> None:
    serving = {"endpoint": "chat", "template": {"replicas": 3, "engine": {"dtype": "BF16"}}}
    plan, run = a_plan(serving=serving), a_run(serving=serving)
    first = model_endpoint(Promote("chat", "pvc://c/one", DIGEST, "demo"), run, plan, None)
    control_plane.api.create(there(first, namespace), namespace)
    control_plane.api.merge(MODEL_ENDPOINT, namespace, "chat", {"spec": {"port": 81}})
    for uri in ("pvc://c/two", "pvc://c/three"):
        told = model_endpoint(Promote("chat", uri, "sha256:" + "b" * 64, "demo"), run, plan, an_endpoint())
        found = control_plane.api.apply(there(told, namespace), namespace, manager=names.MANAGER)
    spec = found["spec"]
    assert spec["model"]["uri"] == "pvc://c/three"
    assert (spec["replicas"], spec["engine"]["dtype"], spec["port"]) == (3, "BF16", 81)


def test_invariant_e_a_deployment_that_is_applied_again_changes_its_replicas_alone(
    control_plane: ControlPlane, namespace: str
) -> None:
    wanted = there(a_deployment(an_endpoint()), namespace)
    name = wanted["metadata"]["name"]

    def apply(manifest: Manifest) -> Manifest:
        return control_plane.api.apply(manifest, namespace, manager=names.MANAGER)

    made, again = apply(wanted), apply(wanted)
    assert again["metadata"]["generation"] == made["metadata"]["generation"]
    seen = eventually(lambda: _observed(control_plane, namespace, name), "the Deployment's controller has looked at it")
    more = apply(scaled(seen, 2))
    assert more["spec"] == {**seen["spec"], "replicas": 2}
    eventually(lambda: _observed(control_plane, namespace, name), "it has looked again")
    assert len(control_plane.api.list(REPLICA_SET, namespace)) == 1, "no pod was started again"


def _observed(plane: ControlPlane, namespace: str, name: str) -> Manifest | None:
    found = plane.api.get(DEPLOYMENT, namespace, name) or {}
    current = found.get("status", {}).get("observedGeneration") == found["metadata"]["generation"]
    return found if current else None
