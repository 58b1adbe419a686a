from datetime import UTC, datetime, timedelta

import pytest
from tests.unit.operator.kube_objects import a_pod

from slipway_core.resources.conditions import timestamp
from slipway_operator import names
from slipway_operator.common import blockers

NOW = datetime(2026, 1, 1, 12, 10, tzinfo=UTC)


def unschedulable(message, **more):
    condition = {"type": "PodScheduled", "status": "False", "message": message, **more}
    return a_pod(phase="Pending", conditions=[condition])


@pytest.mark.parametrize(
    ("pod", "type_", "words"),
    [
        (
            unschedulable("0/3 nodes are available: 3 Insufficient nvidia.com/gpu."),
            "Unschedulable",
            "asks for 8 nvidia.com/gpu and no node has that many free",
        ),
        (unschedulable("0/1 nodes are available: 1 Insufficient cpu."), "Unschedulable", "no node takes the pod"),
        (unschedulable('persistentvolumeclaim "corpus" not found'), "ClaimMissing", "the claim corpus does not exist"),
        (unschedulable("pod has unbound immediate PersistentVolumeClaims"), "ClaimPending", "has no volume yet"),
        (
            a_pod(waiting={"reason": "ImagePullBackOff", "message": "not found"}),
            "ImageUnavailable",
            "the image slipway-train:dev cannot be pulled",
        ),
        (
            a_pod(waiting={"reason": "CreateContainerConfigError", "message": 'secret "hub" not found'}),
            "SecretMissing",
            "the Secret hub does not exist",
        ),
        (
            a_pod(
                waiting={
                    "reason": "CreateContainerConfigError",
                    "message": "couldn't find key token in Secret team/hub",
                }
            ),
            "SecretMissing",
            "the Secret hub has no key token",
        ),
        (
            unschedulable("0/2 nodes are available: 2 node(s) were unschedulable."),
            "Unschedulable",
            "A node is cordoned: kubectl uncordon brings it back",
        ),
        (a_pod(deleted="2026-01-01T12:08:00Z"), "NodeLost", "kubectl delete node node-1"),
    ],
)
def test_a_pod_that_cannot_go_on_names_the_object_and_the_fix(pod, type_, words):
    (found,) = blockers.of_pods([pod], NOW)
    assert found.type == type_
    assert words in found.message


@pytest.mark.parametrize(
    ("reason", "message", "type_", "words"),
    [
        (
            "FailedCreate",
            'pods "x" is forbidden: exceeded quota: gpus, requested: requests.nvidia.com/gpu=8, '
            "used: requests.nvidia.com/gpu=2, limited: requests.nvidia.com/gpu=8",
            "QuotaExceeded",
            "the quota gpus has no room: asked for requests.nvidia.com/gpu=8",
        ),
        (
            "FailedCreate",
            'pods "x" is forbidden: failed quota: team: must specify limits.cpu for: trainer; '
            "limits.memory for: trainer",
            "PodForbidden",
            "the quota team wants limits.cpu, limits.memory of every container, and the pod has none: set "
            "compute.resources of the run (resources of an endpoint), or defaults.training.resources and "
            "defaults.serving.resources of the chart",
        ),
        (
            "FailedCreate",
            'pods "x" is forbidden: [maximum cpu usage per Container is 2, but limit is 4, maximum memory usage per '
            "Container is 1Gi, but limit is 4Gi]",
            "PodForbidden",
            "a LimitRange of the namespace does not admit the pod: maximum cpu usage per Container is 2, but limit is "
            "4, maximum memory usage per Container is 1Gi, but limit is 4Gi; set compute.resources",
        ),
        (
            "FailedCreate",
            'pods "x" is forbidden: minimum memory usage per Container is 8Gi, but request is 2Gi',
            "PodForbidden",
            "minimum memory usage per Container is 8Gi, but request is 2Gi; set compute.resources",
        ),
        (
            "FailedCreate",
            'pods "x" is forbidden: cpu max limit to request ratio per Container is 2, but provided ratio is 4.000000',
            "PodForbidden",
            "cpu max limit to request ratio per Container is 2",
        ),
        (
            "FailedCreate",
            'pods "x" is forbidden: violates PodSecurity "restricted:latest": ...',
            "PodForbidden",
            "does not admit the pod",
        ),
        (
            "FailedCreate",
            'pods "x" is forbidden: no PriorityClass with name urgent was found',
            "PriorityClassMissing",
            "no PriorityClass urgent",
        ),
        (
            "FailedCreate",
            'Error creating: pods "x" is forbidden: error looking up service account team/trainers: serviceaccount '
            '"trainers" not found',
            "ServiceAccountMissing",
            "the ServiceAccount trainers of a pod template of the chart does not exist in this namespace",
        ),
        (
            "FailedCreate",
            'Error creating: pods "x" is forbidden: pod rejected: RuntimeClass "gvisor" not found',
            "RuntimeClassMissing",
            "there is no RuntimeClass gvisor",
        ),
        (
            "FailedMount",
            'MountVolume.SetUp failed for volume "keys" : secret "keys" not found',
            "SecretMissing",
            "the Secret keys does not exist",
        ),
        (
            "FailedMount",
            "Unable to attach or mount volumes: timed out",
            "VolumeNotMounted",
            "Unable to attach or mount volumes: timed out. Check the claim and its storage class",
        ),
        (
            "FailedMount",
            'MountVolume.MountDevice failed for volume "pvc-0a1b" : rpc error: code = Internal',
            "VolumeNotMounted",
            "code = Internal. Check the claim and its storage class",
        ),
    ],
)
def test_what_only_events_tell(reason, message, type_, words):
    (found,) = blockers.of_events([{"reason": "Scheduled", "message": "ok"}, {"reason": reason, "message": message}])
    assert found.type == type_
    assert words in found.message


SECRET_TIMEOUT = (
    'MountVolume.SetUp failed for volume "keys" : failed to sync secret cache: timed out waiting for the condition'
)


@pytest.mark.parametrize(
    "message",
    [
        SECRET_TIMEOUT,
        "Unable to attach or mount volumes: unmounted volumes=[keys], unattached volumes=[], failed to process "
        "volumes=[]: context deadline exceeded",
    ],
)
def test_a_secret_that_is_not_mounted_is_named_by_its_field_and_nobody_is_sent_to_a_claim(message):
    (found,) = blockers.of_events([{"reason": "FailedMount", "message": message}])
    assert found.type == "VolumeNotMounted"
    assert f"{message}. The volume keys is the Secret of access.keysSecret: create it" in found.message
    assert "claim" not in found.message


def test_a_node_that_may_not_read_a_new_claim_yet_is_no_news_unless_that_stays_so() -> None:
    """What a kubelet said of the first pod of a claim, whose mount worked half a second later."""
    message = (
        "Unable to attach or mount volumes: unmounted volumes=[plan workspace], unattached volumes=[], failed to "
        "process volumes=[workspace]: error processing PVC team/slipway-workspace: failed to fetch PVC from API "
        'server: persistentvolumeclaims "slipway-workspace" is forbidden: User "system:node:a" cannot get resource '
        '"persistentvolumeclaims" in API group "" in the namespace "team": no relationship found between node \'a\' '
        "and this object"
    )
    event = {"reason": "FailedMount", "message": message}
    assert blockers.of_events([event]) == ()
    assert blockers.of_events([{**event, "count": 3}]) == ()
    (found,) = blockers.of_events([{**event, "count": 4}])
    assert found.type == "VolumeNotMounted"
    assert "no relationship found" in found.message


def test_a_mount_that_timed_out_is_not_told_beside_the_secret_that_it_waits_for():
    missing = 'MountVolume.SetUp failed for volume "keys" : secret "api-keys" not found'
    events = [{"reason": "FailedMount", "message": message} for message in (SECRET_TIMEOUT, missing)]
    (found,) = blockers.of_events(events)
    assert (found.type, "the Secret api-keys does not exist" in found.message) == ("SecretMissing", True)


def asks_for(pod, **resources):
    pod["spec"]["containers"][0]["resources"] = resources
    return pod


def test_a_pod_that_is_too_large_says_how_large_and_where_that_is_set():
    words = (
        "0/1 nodes are available: 1 Insufficient memory. no new claims to deallocate, preemption: 0/1 nodes are "
        "available: 1 Preemption is not helpful for scheduling."
    )
    pod = asks_for(unschedulable(words), requests={"memory": "900Gi"}, limits={"cpu": "2"})
    (found,) = blockers.of_pods([pod], NOW)
    name = pod["metadata"]["name"]
    assert found.message == (
        f"no node takes the pod {name}, which asks for cpu 2, memory 900Gi: 0/1 nodes are available: 1 Insufficient "
        "memory. Free room on a node, add a larger one, or lower compute.resources.requests (left out: "
        "defaults.training.resources of the chart)"
    )
    pod["metadata"]["labels"][names.ROLE] = "serve"
    (found,) = blockers.of_pods([pod], NOW)
    assert "or lower resources.requests (left out: defaults.serving.resources of the chart)" in found.message


def test_a_pod_that_fits_no_nodes_labels_or_taints_names_the_fields():
    (found,) = blockers.of_pods([unschedulable("1 node(s) didn't match Pod's node affinity/selector")], NOW)
    assert "affinity/selector. Change compute.nodeSelector or compute.tolerations" in found.message


def test_pods_that_run_ended_or_are_ending_in_time_are_not_blocked():
    fine = [a_pod(), a_pod(exit_code=1), a_pod(deleted="2026-01-01T12:10:00Z"), a_pod(phase="Pending")]
    assert blockers.of_pods(fine, NOW) == ()


def test_a_kind_of_blocker_is_told_once():
    pods = [unschedulable("1 Insufficient cpu"), unschedulable("1 Insufficient memory")]
    assert len(blockers.of_pods(pods, NOW)) == 1


def test_several_nodes_want_a_claim_that_they_can_share():
    claim = {"metadata": {"name": "slipway-workspace"}, "spec": {"accessModes": ["ReadWriteOnce"]}}
    (found,) = blockers.shared_workspace(claim, nodes=2)
    assert "ReadWriteMany" in found.message
    assert blockers.shared_workspace(claim, nodes=1) == ()
    assert blockers.shared_workspace({**claim, "spec": {"accessModes": ["ReadWriteMany"]}}, nodes=2) == ()


def test_F_an_image_that_is_tried_again_and_again_is_one_condition_that_does_not_change():
    """A change of a condition's reason is written at once, and the kubelet goes back and forth every few minutes."""
    cause = 'failed to resolve "slipway-train:dev": lookup hub on 10.96.0.10:53: read udp {}: i/o timeout'
    first, second = cause.format("10.0.0.7:48733->10.96.0.10:53"), cause.format("10.0.0.7:51002->10.96.0.10:53")
    waits = [
        {"reason": "ErrImagePull", "message": first},
        {"reason": "ImagePullBackOff", "message": f'Back-off pulling image "slipway-train:dev": ErrImagePull: {first}'},
        {"reason": "ErrImagePull", "message": second},
        {"reason": "RegistryUnavailable", "message": second},
    ]
    (found,) = {blockers.of_pods([a_pod(waiting=waiting)], NOW) for waiting in waits}
    assert "i/o timeout" in found[0].message
    (never,) = blockers.of_pods([a_pod(waiting={"reason": "ErrImageNeverPull", "message": "no"})], NOW)
    assert never.reason == "ErrImageNeverPull"


@pytest.mark.parametrize(("seconds", "shown"), [(0, False), (4, False), (5, True), (600, True)])
def test_a_volume_that_is_just_being_made_is_no_news(seconds, shown):
    pod = unschedulable(
        "pod has unbound immediate PersistentVolumeClaims",
        lastTransitionTime=timestamp(NOW - timedelta(seconds=seconds)),
    )
    assert [one.type for one in blockers.of_pods([pod], NOW)] == (["ClaimPending"] if shown else [])
    # What nobody mends is told at once.
    other = unschedulable("0/1 nodes: 1 Insufficient cpu.", lastTransitionTime=timestamp(NOW))
    assert [one.type for one in blockers.of_pods([other], NOW)] == ["Unschedulable"]
