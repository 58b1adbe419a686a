from datetime import timedelta

import pytest
from tests.unit.operator.served_world import NAME, NAMESPACE, ServedWorld, digest

from slipway_operator import names
from slipway_operator.kube import kinds
from slipway_operator.kube.errors import Conflict, Invalid, QuotaExceeded, Unreachable
from slipway_operator.settings import Images, Settings

PYDANTIC = (
    "pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig\n"
    "  Value error, max_model_len (100000) is greater than 256 [type=value_error, input_value={}, input_type=dict]\n"
    "    For further information visit https://errors.pydantic.dev/2.12/v/value_error\n"
)
"""What vLLM ends with when it does not take its configuration."""


def a_world(model: str = "a", **spec) -> ServedWorld:
    world = ServedWorld()
    world.passes("a", "b", "c")
    world.serve(model, **spec)
    return world


def a_live_world(**spec) -> ServedWorld:
    world = a_world(**spec)
    world.goes_live()
    return world


# ------------------------------------------------------------------------------------------------ the first version


def test_the_first_version_starts_is_asked_and_gets_the_traffic():
    world = a_world()
    world.settle()
    assert (world.deployed(), world.route, world.status["phase"]) == ([1], None, "RollingOut")
    world.becomes_ready(1)
    assert world.reconcile() == timedelta(seconds=1)
    assert world.pods.asked
    assert world.route is None, "no traffic before it has answered"
    world.answers(1)
    world.settle()
    assert (world.route, world.live, world.status["phase"]) == (1, 1, "Serving")
    assert world.status["url"] == "http://chat.default.svc:8000"
    assert world.cluster.told() == ["TookOver"]


def test_every_child_goes_with_the_endpoint():
    world = a_live_world(autoscaling={"maxReplicas": 3})
    uid = world.endpoint["metadata"]["uid"]
    children = (kinds.DEPLOYMENT, kinds.SERVICE, kinds.PDB, kinds.NETWORK_POLICY, kinds.HPA)
    for kind in children:
        (child,) = world.cluster.all(kind)
        assert [owner["uid"] for owner in child["metadata"]["ownerReferences"]] == [uid], kind
    world.cluster.remove(kinds.MODEL_ENDPOINT, NAMESPACE, NAME)
    before = len(world.cluster.writes)
    assert world.reconcile() is None
    assert len(world.cluster.writes) == before
    assert not [child for kind in children for child in world.cluster.all(kind)]


def test_F_a_pass_that_changes_nothing_writes_nothing_not_even_in_a_new_process():
    world = a_live_world(autoscaling={"maxReplicas": 3})
    before = len(world.cluster.writes)
    world.start_operator()
    assert world.reconcile() is None
    assert len(world.cluster.writes) == before


def test_F_the_first_version_costs_few_writes():
    world = a_live_world()
    statuses = world.cluster.written("update_status", kinds.MODEL_ENDPOINT)
    # A candidate; live; and that the traffic has moved.
    assert len(statuses) == 3
    # And a network policy, a Deployment, the Service made and pointed, a disruption budget, one Event.
    assert len(world.cluster.writes) <= 9, world.cluster.writes


def test_what_a_candidate_says_while_it_starts_is_written_every_ten_seconds_at_the_most():
    world = a_world()
    world.settle()
    before = len(world.cluster.written("update_status", kinds.MODEL_ENDPOINT))
    for seconds in range(4):
        world.ends(1, 1, f"attempt {seconds}")
        world.wait(2)
        assert world.reconcile()
    assert len(world.cluster.written("update_status", kinds.MODEL_ENDPOINT)) == before
    world.wait(8)
    world.reconcile()
    assert len(world.cluster.written("update_status", kinds.MODEL_ENDPOINT)) == before + 1
    assert "attempt 3" in world.status["candidate"]["message"]


# ------------------------------------------------------------------------------------------------ invariant A


def test_A_a_model_without_a_verdict_gets_no_deployment_until_it_has_one():
    world = ServedWorld()
    world.serve("a")
    world.settle()
    assert world.deployed() == []
    assert world.condition("Judged")["reason"] == "NoPassingVerdict"
    world.passes("a")
    world.settle()
    assert world.deployed() == [1]


def test_A_a_model_that_is_accepted_unjudged_starts_and_says_so():
    world = ServedWorld()
    world.serve("a", unjudged=True)
    world.goes_live()
    assert world.condition("Judged")["reason"] == "AcceptedUnjudged"
    assert world.metrics.live_after == []


# ------------------------------------------------------------------------------------------------ invariant B


def test_B_a_candidate_runs_beside_the_live_version_and_takes_over_when_it_answered():
    world = a_live_world()
    world.serve("b")
    world.settle()
    assert (world.deployed(), world.route) == ([1, 2], 1)
    world.becomes_ready(2)
    world.settle()
    assert world.route == 1
    world.answers(2)
    world.settle()
    assert (world.route, world.live, world.deployed()) == (2, 2, [1, 2])
    world.wait(31)
    world.settle()
    assert world.deployed() == [2]
    assert world.cluster.told() == ["TookOver", "TookOver"]


def test_B_traffic_moves_before_the_last_version_ends_and_never_where_nobody_answers():
    world = a_live_world(rollout={"probation": "0s"})
    world.serve("b", rollout={"probation": "0s"})
    world.settle()
    world.becomes_ready(2)
    world.answers(2)
    world.cluster.fail_next("apply", kinds.SERVICE, QuotaExceeded("exceeded quota: services"))
    world.reconcile()
    assert (world.route, world.deployed()) == (1, [1, 2])
    world.cluster.fail_next("apply", kinds.SERVICE, QuotaExceeded("exceeded quota: services"))
    world.reconcile()
    assert world.deployed() == [1, 2], "the version that the Service sends to is not ended"
    world.settle()
    assert (world.route, world.deployed()) == (2, [2])


@pytest.mark.parametrize(
    ("code", "said", "more", "tells"),
    [
        (2, "Traceback\nslipway-server: the artifact is damaged", {}, "slipway-server: the artifact is damaged"),
        (137, "", {"reason": "OOMKilled"}, "used more memory than its limit"),
        (1, "CUDA error", {"times": 3}, "ended with exit code 1: CUDA error"),
        (1, PYDANTIC, {"times": 3}, "ended with exit code 1: max_model_len (100000) is greater than 256"),
    ],
)
def test_B_a_candidate_whose_server_ends_leaves_the_live_version_alone(code, said, more, tells):
    world = a_live_world()
    world.serve("b")
    world.settle()
    world.ends(2, code, said, **more)
    world.settle()
    assert (world.live, world.candidate, world.route, world.deployed()) == (1, None, 1, [1])
    assert tells in world.remembered(2)["message"]
    assert world.cluster.told()[-1] == "CandidateFailed"
    world.annotate(retry="again")
    world.settle()
    assert world.candidate == 3


@pytest.mark.parametrize("times", [1, 2])
def test_a_candidate_whose_server_ended_once_or_twice_is_started_again_by_the_kubelet(times):
    world = a_world()
    world.settle()
    for becomes in (world.ends, world.backs_off, world.is_started_again):
        becomes(1, 1, "connection reset", times=times)
        world.wait(11)
        world.settle()
        assert (world.candidate, world.deployed()) == (1, [1]), becomes
        assert world.status["candidate"]["message"] == (
            "it starts again: its server ended with exit code 1: connection reset"
        )


def test_a_candidate_whose_third_end_is_seen_in_the_back_off_alone_fails_before_it_is_started_again():
    world = a_live_world()
    world.serve("b")
    world.settle()
    world.backs_off(2, 1, "connection reset", times=3)
    world.settle()
    assert (world.live, world.candidate, world.deployed()) == (1, None, [1])
    assert world.remembered(2)["message"] == "its server ended with exit code 1: connection reset"


def test_B_a_candidate_that_does_not_answer_fails_with_what_it_said():
    world = a_live_world()
    world.serve("b")
    world.settle()
    world.becomes_ready(2)
    world.pods.said[2] = (False, "it was asked a prompt: the answer has no token", None)
    world.settle()
    assert (world.live, world.route, world.deployed()) == (1, 1, [1])
    assert world.remembered(2)["message"] == "it was asked a prompt: the answer has no token"


def test_B_a_candidate_that_cannot_be_reached_says_so_and_fails_when_its_time_to_start_is_over():
    world = a_live_world()
    world.serve("b")
    world.settle()
    world.becomes_ready(2)
    world.pods.said[2] = (
        None,
        "the operator does not reach the pod slipway-serve-chat-v2-abc-0: Connection refused",
        None,
    )
    world.wait(11)
    world.settle()
    assert world.candidate == 2
    assert world.status["candidate"]["message"] == world.pods.said[2][1]
    world.wait(15 * 60)
    world.settle()
    assert (world.live, world.candidate, world.route) == (1, None, 1)
    assert "Connection refused" in world.remembered(2)["message"]


def test_B_a_candidate_that_finds_no_place_waits_however_long_it_takes():
    world = a_live_world()
    world.serve("b")
    world.settle()
    world.has_no_place(2)
    world.settle()
    told = world.condition("CandidateUnschedulable")
    assert "Insufficient memory" in told["message"]
    assert "Version 1 stays live" in told["message"]
    world.wait(48 * 3600)
    world.settle()
    assert (world.live, world.candidate, world.route) == (1, 2, 1)
    world.pods_are_gone(2)
    world.pod_of(2)
    world.wait(14 * 60)
    world.settle()
    assert world.condition("CandidateUnschedulable") is None
    assert world.candidate == 2, "its time to start begins when it has a place"
    world.becomes_ready(2)
    world.answers(2)
    world.settle()
    assert world.live == 2


def test_a_candidate_that_was_placed_and_is_not_ready_in_time_fails():
    world = a_world()
    world.settle()
    world.pod_of(1)
    world.wait(15 * 60 + 1)
    world.settle()
    assert (world.candidate, world.status["phase"]) == (None, "Failed")
    assert world.remembered(1)["message"].startswith("it was not ready within 15m")


def test_an_image_that_cannot_be_pulled_is_a_condition_and_in_the_end_the_reason():
    world = a_world()
    world.settle()
    waiting = {"waiting": {"reason": "ImagePullBackOff", "message": "not found"}}
    world.pod_of(1, phase="Pending", containerStatuses=[{"name": "server", "image": "nope:1", "state": waiting}])
    world.settle()
    assert "nope:1" in world.condition("ImageUnavailable")["message"]
    assert world.candidate == 1
    world.wait(15 * 60 + 1)
    world.settle()
    assert "nope:1" in world.remembered(1)["message"]


def test_a_pod_that_is_silent_on_its_node_has_its_events_read():
    world = a_world()
    world.settle()
    pod = world.pod_of(1, phase="Pending", containerStatuses=[])
    world.cluster.put(
        {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": "mount"},
            "involvedObject": {"uid": pod["metadata"]["uid"]},
            "reason": "FailedMount",
            "message": 'MountVolume.SetUp failed for volume "keys" : secret "chat-keys" not found',
        }
    )
    world.settle()
    assert world.condition("SecretMissing") is None
    world.wait(9)
    world.settle()
    assert "chat-keys" in world.condition("SecretMissing")["message"]
    world.wait(3600)
    world.settle()
    assert world.candidate == 1, "it goes on by itself once the Secret is there"


def test_B_a_version_that_dies_in_its_probation_gives_way_to_the_last_one():
    world = a_live_world()
    world.serve("b")
    world.settle()
    world.becomes_ready(2)
    world.answers(2)
    world.settle()
    assert world.route == 2
    world.ends(2, 139)
    world.settle()
    assert (world.live, world.route, world.deployed()) == (1, 1, [1])
    assert "signal 11" in world.remembered(2)["message"]
    assert "RolledBack" in world.cluster.told()


def test_a_server_that_misses_its_probes_for_a_moment_is_not_given_up():
    world = a_live_world()
    world.serve("b")
    world.settle()
    world.becomes_ready(2)
    world.answers(2)
    world.settle()
    world.wait(5)
    pod = world.pod_of(2, ready=False)
    running = {"running": {"startedAt": "2026-01-01T12:00:00Z"}}
    own = {"name": "server", "image": "i", "state": running}
    world.cluster.put({**pod, "status": {**pod["status"], "containerStatuses": [own]}})
    world.wait(9)
    world.settle()
    assert world.live == 2
    world.wait(2)
    world.settle()
    assert world.live == 1


def test_a_live_version_that_dies_later_stays_live_and_the_status_tells_why_it_does_not_answer():
    world = a_live_world()
    world.ends(1, 137, reason="OOMKilled")
    world.settle()
    assert (world.live, world.route, world.status["phase"], world.deployed()) == (1, 1, "Degraded", [1])
    assert "OOMKilled" in world.condition("Ready")["message"]
    world.becomes_ready(1)
    world.settle()
    assert world.status["phase"] == "Serving"


def test_recreate_ends_the_live_version_first_and_puts_it_back_when_its_successor_fails():
    recreate = {"rollout": {"strategy": "Recreate"}}
    world = a_live_world(**recreate)
    world.serve("b", **recreate)
    world.reconcile()
    world.settle()
    assert world.deployed() == [], "one at a time: the last pod of it still drains"
    world.pods_are_gone(1)
    world.settle()
    assert world.deployed() == [2]
    world.ends(2, 2, "slipway-server: no")
    world.settle()
    world.pods_are_gone(2)
    world.settle()
    assert (world.deployed(), world.route, world.live) == ([1], 1, 1)


@pytest.mark.parametrize("restart", [False, True])
def test_B_the_version_that_recreate_puts_back_has_the_settings_that_it_had_also_under_a_new_leader(restart):
    recreate = {"rollout": {"strategy": "Recreate"}}
    world = a_live_world(**recreate, engine={"maxModelLength": 64})
    before = world.deployment(1)
    world.serve("a", **recreate, engine={"maxModelLength": 99999})
    world.settle()
    world.pods_are_gone(1)
    world.settle()
    assert world.deployed() == [2]
    if restart:
        world.start_operator()
    world.ends(2, 2, "slipway-server: too long")
    world.settle()
    world.pods_are_gone(2)
    world.settle()
    assert (world.deployed(), world.live) == ([1], 1)
    assert world.deployment(1)["spec"] == before["spec"]


@pytest.mark.parametrize("restart", [False, True])
def test_B_the_version_that_comes_back_in_the_probation_of_recreate_has_the_settings_that_it_had(restart):
    recreate = {"rollout": {"strategy": "Recreate"}}
    world = a_live_world(**recreate, engine={"maxModelLength": 64})
    before = world.deployment(1)
    world.serve("a", **recreate, engine={"maxModelLength": 128})
    world.settle()
    world.pods_are_gone(1)
    world.settle()
    world.becomes_ready(2)
    world.answers(2)
    world.settle()
    assert (world.live, world.remembered(1)["state"]) == (2, "Standby")
    if restart:
        world.start_operator()
    world.ends(2, 139)
    world.settle()
    world.pods_are_gone(2)
    world.settle()
    assert (world.deployed(), world.live) == ([1], 1)
    assert world.deployment(1)["spec"] == before["spec"]


# --------------------------------------------------------------------------------------------- frozen, and in place


def test_E_an_upgrade_of_the_operator_restarts_nothing():
    world = a_live_world(engine={"maxModelLength": 64})
    before = world.deployment(1)
    world.settings = Settings(images=Images(serve="slipway-serve:next"))
    world.start_operator()
    world.settle()
    assert world.deployment(1) == before


def test_E_a_live_deployment_that_somebody_deletes_comes_back_as_it_was():
    world = a_live_world(engine={"maxModelLength": 64}, replicas=2)
    before = world.deployment(1)
    world.serve("b", engine={"maxModelLength": 128}, replicas=2)
    world.settle()
    world.cluster.remove(kinds.DEPLOYMENT, NAMESPACE, names.version(NAME, 1))
    world.settle()
    after = world.deployment(1)
    assert after["spec"] == before["spec"]
    assert after["metadata"]["annotations"] == before["metadata"]["annotations"]


def test_E_a_live_deployment_that_somebody_deletes_while_no_operator_runs_comes_back_with_its_settings():
    world = a_live_world(uri="s3://models/a", engine={"maxModelLength": 64}, credentials="store")
    before = world.deployment(1)
    world.serve("b", engine={"maxModelLength": 128})
    world.cluster.remove(kinds.DEPLOYMENT, NAMESPACE, names.version(NAME, 1))
    world.start_operator()
    world.settle()
    after = world.deployment(1)
    assert after["spec"] == before["spec"], "its settings, and the Secret that it is fetched with"
    assert after["metadata"]["annotations"] == before["metadata"]["annotations"]


def test_F_what_a_version_was_made_of_is_kept_with_the_service_in_no_write_of_its_own():
    world = a_live_world()
    before = world.cluster.written("apply", kinds.SERVICE)
    assert len(before) == 2
    world.serve("b")
    world.goes_live(2)
    assert len(world.cluster.written("apply", kinds.SERVICE)) == 3


def test_replicas_apply_in_place_and_a_candidate_has_as_many_before_it_takes_over():
    world = a_live_world()
    template = world.deployment(1)["spec"]["template"]
    world.serve("a", replicas=3)
    world.settle()
    assert (world.candidate, world.deployment(1)["spec"]["replicas"]) == (None, 3)
    assert world.deployment(1)["spec"]["template"] == template
    world.becomes_ready(1)
    world.serve("b", replicas=3)
    world.settle()
    assert world.deployment(2)["spec"]["replicas"] == 3
    world.answers(2)
    world.pod_of(2, 0, ready=True)
    status = {"observedGeneration": 1, "availableReplicas": 1}
    world.cluster.set_status(kinds.DEPLOYMENT, NAMESPACE, names.version(NAME, 2), status)
    world.settle()
    assert world.live == 1, "a take-over must not cost capacity"
    world.becomes_ready(2)
    world.settle()
    assert world.live == 2


def test_an_autoscalers_replicas_are_its_own_and_a_candidate_starts_with_as_many():
    world = a_live_world(autoscaling={"maxReplicas": 5})
    live = world.deployment(1)
    world.cluster.put({**live, "spec": {**live["spec"], "replicas": 4}})
    world.becomes_ready(1)
    world.settle()
    assert world.deployment(1)["spec"]["replicas"] == 4
    world.serve("b", autoscaling={"maxReplicas": 5})
    world.settle()
    assert world.deployment(2)["spec"]["replicas"] == 4
    world.becomes_ready(2)
    world.answers(2)
    world.settle()
    (scaler,) = world.cluster.all(kinds.HPA)
    assert scaler["spec"]["scaleTargetRef"]["name"] == names.version(NAME, 2)
    world.serve("b", replicas=2)
    world.settle()
    assert world.cluster.all(kinds.HPA) == []
    assert world.deployment(2)["spec"]["replicas"] == 2


def test_the_disruption_budget_is_of_the_version_with_the_traffic():
    world = a_live_world()
    world.serve("b")
    world.goes_live(2)
    (budget,) = world.cluster.all(kinds.PDB)
    assert budget["spec"]["selector"]["matchLabels"][names.VERSION] == "2"


def test_a_port_applies_in_place():
    world = a_live_world()
    world.serve("a", port=9000)
    world.settle()
    assert world.cluster.one(kinds.SERVICE, NAME)["spec"]["ports"][0]["port"] == 9000
    assert (world.candidate, world.status["url"]) == (None, "http://chat.default.svc:9000")
    # A port of a Service that was created and not applied would stay beside the new one, and have its name.
    assert world.cluster.written("create", kinds.SERVICE) == []


def test_rollback_serves_a_model_of_the_history_as_a_new_version():
    world = a_live_world()
    world.serve("b")
    world.goes_live(2)
    world.serve("b", rollbackTo=1)
    world.goes_live(3)
    assert world.status["live"]["digest"] == digest("a")
    assert len(world.metrics.live_after) == 2, "a model that was live before passed no gate now"


# ------------------------------------------------------------------------------------------------- what goes wrong


def test_the_seconds_from_the_gate_to_the_first_request_are_measured():
    world = a_world()
    world.settle()
    world.wait(20)
    world.becomes_ready(1)
    world.answers(1)
    world.settle()
    assert world.metrics.live_after == [20]


def test_F_an_operator_that_dies_after_any_call_is_followed_by_one_that_ends_where_it_would_have():
    calm = a_live_world()
    calls = len(calm.cluster.writes)
    for deaths in range(calls):
        world = a_world()
        counted = _die_after(world, deaths)
        with pytest.raises(Unreachable):
            _live_on(world, 10)
        counted.clear()
        world.start_operator()
        _live_on(world, 6)
        assert (world.live, world.route, world.deployed()) == (1, 1, [1]), f"died after {deaths} calls"


def _live_on(world: ServedWorld, passes: int) -> None:
    for _ in range(passes):
        world.reconcile()
        if world.deployed():
            world.becomes_ready(1)
            world.answers(1)


def _die_after(world: ServedWorld, calls: int) -> list[int]:
    """Has every call after so many end without an answer, done or not, until the list is cleared."""
    left = [calls]
    attempt = world.cluster._attempt

    def tried(write):
        attempt(write)
        if left:
            left[0] -= 1
            if left[0] < 0:
                raise Unreachable("the operator is gone")

    world.cluster._attempt = tried  # type: ignore[method-assign]
    return left


def test_what_the_api_server_does_not_take_is_a_condition_until_it_does():
    world = a_world()
    world.cluster.fail_next("create", kinds.DEPLOYMENT, QuotaExceeded("exceeded quota: team"))
    assert world.reconcile() == timedelta(0)
    world.cluster.fail_next("create", kinds.DEPLOYMENT, QuotaExceeded("exceeded quota: team"))
    assert world.reconcile() is not None
    assert (world.condition("Refused")["reason"], world.deployed()) == ("QuotaExceeded", [])
    world.settle()
    assert (world.condition("Refused"), world.deployed()) == (None, [1])


def test_an_endpoint_waits_for_a_pod_template_that_the_chart_does_not_have_and_starts_once_it_has():
    world = ServedWorld()
    world.serve("a", unjudged=True, podTemplate="company")
    for _ in range(3):
        world.reconcile()
        world.wait(3600)
    refused = world.condition("Refused")
    assert (refused["reason"], world.deployed()) == ("PodTemplateUnknown", [])
    assert "podTemplate: 'company' is none of defaults.serving.podTemplates" in refused["message"]
    world.settings = Settings.model_validate({"serving": {"podTemplates": {"company": {"runtimeClassName": "gvisor"}}}})
    world.start_operator()
    world.settle()
    assert (world.condition("Refused"), world.deployed()) == (None, [1])
    assert world.deployment(1)["spec"]["template"]["spec"]["runtimeClassName"] == "gvisor"


def test_E_where_an_endpoint_runs_is_a_version_and_a_chart_that_changes_reaches_the_next_one():
    world = a_live_world()
    made = world.deployment(1)
    world.settings = Settings.model_validate({"serving": {"nodeSelector": {"pool": "gpu"}}})
    world.start_operator()
    world.settle()
    assert (world.deployment(1), world.deployed()) == (made, [1]), "an upgrade restarts nothing"
    world.serve("a", unjudged=True, tolerations=[{"key": "gpu", "operator": "Exists"}])
    world.settle()
    assert world.deployed() == [1, 2]
    pod = world.deployment(2)["spec"]["template"]["spec"]
    assert (pod["nodeSelector"], pod["tolerations"]) == ({"pool": "gpu"}, [{"key": "gpu", "operator": "Exists"}])


def test_B_an_endpoint_whose_status_is_not_taken_says_so_and_nothing_of_it_is_done():
    world = a_live_world()
    world.serve("b")
    world.settle()
    world.becomes_ready(2)
    world.reconcile()
    world.answers(2)
    too_long = Invalid("status.history[0].message: Too long: may not be more than 4096 bytes")
    before = len(world.cluster.writes)
    for _ in range(3):
        world.cluster.fail_next("update_status", kinds.MODEL_ENDPOINT, too_long)
        assert world.reconcile() >= timedelta(seconds=15)
        world.wait(15)
    assert {write.verb for write in world.cluster.writes[before:]} == {"update_status"}
    assert len(world.cluster.writes) - before == 3 + 1, "tried three times, told once"
    assert world.condition("Refused")["reason"] == "StatusInvalid"
    assert world.condition("Refused")["message"].endswith(str(too_long))
    assert (world.live, world.candidate, world.route) == (1, 2, 1)
    world.settle()
    assert (world.live, world.route, world.condition("Refused")) == (2, 2, None)


def test_a_new_endpoint_whose_first_status_is_not_taken_says_so():
    world = a_world()
    world.cluster.fail_next("update_status", kinds.MODEL_ENDPOINT, Invalid("status.url: Too long"))
    world.reconcile()
    assert (world.condition("Refused")["reason"], world.status["phase"]) == ("StatusInvalid", "Pending")


def test_a_service_of_somebody_else_is_left_alone():
    world = a_world()
    theirs = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": NAME}, "spec": {"selector": {"app": "shop"}}}
    key = (kinds.SERVICE.kind, NAMESPACE, NAME)
    stored = world.cluster.put(theirs)
    world.cluster.world.remove(stored)
    world.reconcile()
    world.reconcile()
    assert "under another name" in world.condition("Refused")["message"]
    assert world.cluster.objects[key]["spec"] == theirs["spec"]


def test_an_endpoint_of_the_name_of_one_that_is_still_going_waits_for_that():
    world = a_live_world()
    old = [world.deployment(1), world.cluster.one(kinds.SERVICE, NAME)]
    world.cluster.remove(kinds.MODEL_ENDPOINT, NAMESPACE, NAME)
    for child in old:
        world.cluster.put(child)
    world.wait(5)
    world.serve("b")
    with pytest.raises(Conflict):
        world.reconcile()
    assert world.live is None
    for child in old:
        world.cluster.remove(kinds.of(child), NAMESPACE, child["metadata"]["name"])
    world.settle()
    assert world.deployed() == [1]
    assert world.status["candidate"]["digest"] == digest("b")


@pytest.mark.parametrize(
    ("spec", "says"),
    [({"uri": "file:///models/a"}, "pvc://CLAIM/PATH"), ({"access": {"keysFile": "keys"}}, "access.keysSecret")],
)
def test_settings_that_a_cluster_cannot_have_fail_the_candidate_with_the_fix(spec, says):
    world = a_world(**spec)
    world.settle()
    assert (world.deployed(), world.candidate) == ([], None)
    assert says in world.remembered(1)["message"]
    assert world.condition("Refused") is None


def test_access_that_is_left_out_is_a_condition():
    world = a_world(access={})
    world.settle()
    assert "access.keysSecret" in world.condition("AccessOpen")["message"]


ALL = [{"namespaceSelector": {}}]


def admitted(world: ServedWorld):
    return world.cluster.one(kinds.NETWORK_POLICY, NAME)["spec"]["ingress"][0]["from"]


def test_H_other_namespaces_are_let_in_once_no_version_that_was_not_meant_for_them_runs():
    world = a_live_world(access={})
    assert admitted(world) != ALL
    world.serve("a", access={"anonymous": True})
    world.settle()
    world.becomes_ready(2)
    world.answers(2)
    world.settle()
    assert (world.deployed(), admitted(world) == ALL) == ([1, 2], False)
    world.wait(31)
    world.settle()
    world.pods_are_gone(1)
    world.settle()
    assert (world.deployed(), admitted(world)) == ([2], ALL)


def test_H_other_namespaces_are_kept_out_before_a_version_starts_that_is_not_meant_for_them():
    world = a_live_world(access={"keysSecret": "keys"})
    assert admitted(world) == ALL
    world.serve("a", access={})
    world.settle()
    assert world.deployed() == [1, 2]
    assert admitted(world) != ALL
    written = [name for verb, kind, name in world.cluster.writes if kind in ("NetworkPolicy", "Deployment")]
    assert written[-2:] == [NAME, world.deployment(2)["metadata"]["name"]]


def test_H_an_endpoint_of_an_earlier_release_is_closed_to_other_namespaces_and_nothing_restarts():
    world = a_live_world(access={})
    made = world.deployment(1)
    policy = world.cluster.one(kinds.NETWORK_POLICY, NAME)
    spec = policy["spec"]
    world.cluster.put({**policy, "spec": {**spec, "ingress": [{**spec["ingress"][0], "from": ALL}]}})
    world.start_operator()
    world.settle()
    assert admitted(world) != ALL
    assert world.deployment(1)["metadata"]["uid"] == made["metadata"]["uid"]


@pytest.mark.parametrize(
    "change",
    [
        # Each has everything that ours has, and lets in more.
        lambda peer: {**peer, "namespaceSelector": {}},
        lambda peer: {**peer, "podSelector": {"matchLabels": {"app": "mine"}}},
    ],
)
def test_H_a_policy_that_somebody_changed_is_put_back(change):
    world = a_live_world(access={})
    policy = world.cluster.one(kinds.NETWORK_POLICY, NAME)
    (rule,) = policy["spec"]["ingress"]
    changed = {**rule, "from": [change(rule["from"][0]), *rule["from"][1:]]}
    world.cluster.put({**policy, "spec": {**policy["spec"], "ingress": [changed]}})
    world.wait(601)
    world.settle()
    assert admitted(world) == rule["from"]


def test_an_object_that_cannot_be_read_is_told_and_does_not_end_the_operator():
    world = a_world()
    endpoint = world.endpoint
    world.cluster.put({**endpoint, "spec": {**endpoint["spec"], "port": "eighty"}})
    assert world.reconcile() is None
    assert world.cluster.told() == ["Unreadable"]


def test_A_a_status_that_was_lost_lets_no_older_deployment_pass_for_the_new_model():
    world = a_live_world()
    world.serve("b")
    world.cluster.set_status(kinds.MODEL_ENDPOINT, NAMESPACE, NAME, {})
    world.settle()
    assert (world.candidate, world.status["candidate"]["digest"]) == (2, digest("b"))
    assert (world.route, world.deployed()) == (1, [1, 2]), "what answers still does"
    world.goes_live(2)
    assert (world.route, world.deployed()) == (2, [2])


def test_an_endpoint_with_a_newer_status_goes_on_and_keeps_what_it_says():
    world = a_live_world()
    status = world.status
    newer = {**status, "mood": "fine", "live": {**status["live"], "canary": 10}}
    world.cluster.set_status(kinds.MODEL_ENDPOINT, NAMESPACE, NAME, newer)
    world.serve("b")
    world.settle()
    assert (world.live, world.candidate) == (1, 2)
    assert (world.status["mood"], world.status["live"]["canary"]) == ("fine", 10)


def test_an_endpoint_that_cannot_be_read_says_so_and_keeps_serving_as_it_is():
    world = a_live_world()
    before, objects = world.endpoint, dict(world.cluster.objects)
    world.cluster.put({**before, "spec": {**before["spec"], "canary": {"weight": 10}}})
    for _ in range(3):
        assert world.reconcile() is None
    assert "ModelEndpoint chat: spec.canary is not known to this operator" in world.condition("Unreadable")["message"]
    assert (world.status["phase"], world.live, world.route, world.deployed()) == ("Serving", 1, 1, [1])
    changed = {key[0] for key, value in world.cluster.objects.items() if objects.get(key) != value}
    assert changed == {"ModelEndpoint", "Event"}
    world.cluster.put({**world.endpoint, "spec": before["spec"]})
    world.settle()
    assert (world.condition("Unreadable"), world.status["phase"]) == (None, "Serving")


def test_A_a_version_is_told_the_record_of_the_run_that_judged_its_model():
    world = ServedWorld()
    world.passes("a")
    world.serve("a")
    world.settle()
    record = {"uri": "pvc://models/run-a/evaluation/1/parity.json", "digest": digest("e")}
    assert world.status["candidate"]["parity"] == record
    world.becomes_ready(1)
    world.pods.said[1] = (True, "there is a folder in its place", None)
    world.settle()
    assert (world.live, world.remembered(1)["state"]) == (None, "Failed")
    said = world.condition("ParityUnknown")
    assert said["reason"] == "NotCompared"
    # The log of its server goes with the version.
    assert f"{record['uri']}: there is a folder in its place; mend that" in said["message"]


def test_A_a_server_that_ends_since_it_is_another_model_fails_its_version_with_the_first_place():
    world = a_live_world()
    world.serve("b")
    world.settle()
    said = (
        "slipway-server: ParityFailed: this is not the model that was judged: chat-turns, token 3: the id is 4, and 5"
    )
    world.ends(2, 2, f"INFO loads\n{said} in the evaluation")
    world.settle()
    assert (world.live, world.route, world.remembered(2)["state"]) == (1, 1, "Failed")
    assert "chat-turns, token 3: the id is 4, and 5 in the evaluation" in world.condition("ParityFailed")["message"]
