"""What only the world can tell: a run that cannot start says which object is missing, and goes on once it is there."""

import pytest
from tests.integration.api_client import eventually
from tests.integration.fresh_namespace import bound_claim

from slipway_operator.kube.kinds import CLAIM, NODE, Kind

QUOTA = Kind("v1", "ResourceQuota", "resourcequotas")


def test_a_missing_claim_is_named_and_the_run_goes_on_once_it_exists(runs):
    run = runs.apply("no-claim", endpoint=None, storage={"claimName": "our-data"})
    message = run.shows("ClaimMissing", "NotFound")
    assert "the claim our-data does not exist in this namespace; create it" in message
    assert run.phase == "Pending"
    with bound_claim(run.api, run.namespace, "our-data"):
        run.reaches("Completed", 60)
        assert not run.condition("ClaimMissing")


def test_a_missing_secret_is_named(runs):
    run = runs.apply("hold-prepare-1-x", endpoint=None)
    run.pod("prepare").waits("CreateContainerConfigError", 'secret "hub-token" not found')
    assert "the Secret hub-token does not exist in this namespace" in run.shows("SecretMissing", "NotFound")
    assert run.phase == "Pending"
    pod = run.pod("prepare").runs()
    run.loses("SecretMissing")
    pod.ends(0, pod.result())
    run.reaches("Completed")


def test_an_image_that_cannot_be_pulled_is_named(runs):
    run = runs.apply("hold-learn-1-x", endpoint=None)
    run.pod("learn").waits("ImagePullBackOff", "Back-off pulling image")
    assert "the image slipway-train:dev cannot be pulled" in run.shows("ImageUnavailable", "ImagePullBackOff")
    assert run.phase == "Pending", "so that `kubectl get tr` and the alert SlipwayRunsWait tell"


def test_a_resource_that_no_node_has_is_named(runs):
    compute = {"accelerator": "nvidia.com/gpu"}
    run = runs.apply("no-gpu", endpoint=None, compute=compute)
    message = run.shows("Unschedulable", "NoAccelerator")
    assert "asks for 1 nvidia.com/gpu and no node has that many free" in message
    node = run.api.list(NODE)[0]["metadata"]["name"]
    room = {"nvidia.com/gpu": "8"}
    run.api.merge(NODE, None, node, {"status": {"allocatable": room, "capacity": room}}, subresource="status")
    try:
        run.reaches("Completed", 60)
    finally:
        none = {"nvidia.com/gpu": None}
        run.api.merge(NODE, None, node, {"status": {"allocatable": none, "capacity": none}}, subresource="status")


def test_a_selector_that_fits_no_node_is_told_in_the_words_of_the_scheduler(runs):
    run = runs.apply("no-node", endpoint=None, compute={"nodeSelector": {"disk": "fast"}})
    run.shows("Unschedulable", "NoNodeFits")


def test_a_quota_without_room_is_named_and_the_run_goes_on_once_there_is_some(runs):
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "team"},
        "spec": {"hard": {"pods": "0"}},
    }
    runs.api.create(quota, runs.namespace)
    eventually(lambda: "hard" in runs.api.get(QUOTA, runs.namespace, "team").get("status", {}), "the quota counts")
    run = runs.apply("no-room", endpoint=None)
    assert "the quota team has no room: asked for pods=1" in run.shows("QuotaExceeded", "ResourceQuota")
    runs.api.merge(QUOTA, runs.namespace, "team", {"spec": {"hard": {"pods": "9"}}})
    # The Job controller tries again with a backoff of its own.
    run.reaches("Completed", 90)


@pytest.mark.parametrize(
    ("kind", "spec", "said"),
    [
        ("ResourceQuota", {"hard": {"limits.cpu": "8"}}, "the quota team wants limits.cpu of every container"),
        (
            "LimitRange",
            {"limits": [{"type": "Container", "min": {"memory": "8Gi"}}]},
            "minimum memory usage per Container is 8Gi, but request is 2Gi; set compute.resources",
        ),
    ],
)
def test_limits_that_a_namespace_wants_are_named_with_the_defaults_to_set(runs, kind, spec, said):
    limits = {"apiVersion": "v1", "kind": kind, "metadata": {"name": "team"}, "spec": spec}
    runs.api.post(f"/api/v1/namespaces/{runs.namespace}/{kind.lower()}s", limits)
    if kind == "ResourceQuota":
        eventually(lambda: "hard" in runs.api.get(QUOTA, runs.namespace, "team").get("status", {}), "the quota counts")
    assert said in runs.apply("no-limits", endpoint=None).shows("PodForbidden", kind)


def test_a_missing_priority_class_is_named(runs):
    run = runs.apply("no-class", endpoint=None, compute={"priorityClassName": "urgent"})
    assert "there is no PriorityClass urgent" in run.shows("PriorityClassMissing", "NotFound")


def test_a_run_that_starts_from_another_waits_for_its_model(runs):
    run = runs.apply("second", endpoint=None, model={"from": "run://first"})
    assert "there is no TrainingRun first in this namespace" in run.shows("Planned", "RunNotFound", "False")
    first = runs.apply("first", endpoint=None)
    first.reaches("Completed")
    run.reaches("Completed", 60)
    assert run.status["planDigest"]


def test_pods_on_several_nodes_need_a_workspace_that_they_can_share(runs):
    run = runs.apply("hold-learn-1-x", endpoint=None, compute={"nodes": 2})
    assert "compute.nodes is 2" in run.shows("WorkspaceNotShared", "AccessMode")


def test_a_pod_that_stays_on_a_lost_node_is_told_and_no_other_starts_beside_it(runs):
    run = runs.apply("hold-learn-1-x", endpoint=None)
    pod = run.pod("learn").runs().stays_when_deleted()
    run.reaches("Training")
    run.api.delete(Kind("v1", "Pod", "pods"), run.namespace, pod.name, grace=0)
    assert pod.name in run.shows("NodeLost", "PodStaysTerminating", seconds=60)
    assert len(run.jobs("learn")) == 1
    pod.node_is_back()
    run.reaches("Completed")
    assert run.record("learn")["failures"] == 0


@pytest.mark.parametrize("name", ["a" * 63, "a" * 52 + "-" + "b" * 10])
def test_a_long_name_is_shortened_and_never_an_error(runs, name):
    run = runs.apply(name, endpoint="e" * 63)
    run.reaches("Serving")
    jobs = run.jobs()
    assert len({job["metadata"]["name"] for job in jobs}) == 4
    assert runs.endpoint("e" * 63).routed == "1"


def test_the_workspace_claim_is_made_once(runs):
    runs.apply("one", endpoint=None).reaches("Completed")
    runs.apply("two", endpoint=None).reaches("Completed")
    [claim] = runs.api.list(CLAIM, runs.namespace)
    assert claim["metadata"]["name"] == "slipway-workspace"
