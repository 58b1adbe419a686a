"""Every transition of an endpoint, through the operator's own process on a real API server."""

import time

import pytest
from tests.integration.api_client import eventually
from tests.integration.fresh_namespace import bound_claim
from tests.integration.operator.audit import by_operator, settled, writes
from tests.integration.operator.pod_hands import model_digest
from tests.integration.operator.runs_on_cluster import verdicts
from tests.programs import program
from typer.testing import CliRunner

from slipway.main import app
from slipway_operator import names
from slipway_operator.kube.kinds import MODEL_ENDPOINT, POD, SERVICE

OTHER = "sha256:" + "c" * 64
GATE = {"metric": "perplexity", "max": 20, "minTokens": 100, "confidence": 0.5}
QUICK = {"probation": "1s", "drain": "1s"}
AGAINST_LIVE = {
    "data": [{"uri": "package://tang-held-out"}],
    "gates": [
        {"metric": "perplexity", "max": 20, "minTokens": 100, "confidence": 0.5},
        {"metric": "perplexity", "maxRegression": 0.5, "minTokens": 100, "confidence": 0.5},
    ],
}


def unjudged(digest=OTHER):
    return {"uri": "pvc://models/a-model", "digest": digest, "acceptUnjudged": True}


def test_B_a_second_run_takes_over_and_the_first_version_ends_after_its_probation(runs):
    first = runs.apply("first")
    first.reaches("Serving")
    second = runs.apply("second")
    second.reaches("Serving")
    endpoint = runs.endpoint()
    assert endpoint.routed == "2"
    assert endpoint.live["run"] == "second"
    endpoint.in_history(1, "Retired")
    eventually(lambda: endpoint.versions == ["2"], "version 1 is gone")
    first.reaches("Completed")
    assert "run second was created later and has the endpoint" in first.condition("Live")["message"]


def test_B_a_candidate_that_refuses_its_prompt_leaves_the_last_good_version_live(runs, pods_say):
    runs.apply("first", endpoint="chat").reaches("Serving")
    pods_say.refuse_prompts(runs.namespace, "slipway-serve-chat-v2-", "the engine answers nothing")
    second = runs.apply("second", endpoint="chat")
    status = second.reaches("Failed", 60)
    assert "the engine answers nothing" in str(status["conditions"])
    endpoint = runs.endpoint()
    assert (endpoint.live["version"], endpoint.routed) == (1, "1")
    endpoint.in_history(2, "Failed")


def test_A_a_candidate_that_does_not_know_whether_it_is_the_model_that_was_judged_gets_no_traffic(runs, pods_say):
    first = runs.apply("first", endpoint="chat")
    first.reaches("Serving")
    endpoint = runs.endpoint()
    evaluation = first.status["evaluation"]
    record = (
        f"{first.status['artifact']['uri'].removesuffix('/artifact')}/evaluation/{evaluation['number']}/parity.json"
    )
    assert endpoint.live["parity"] == {"uri": record, "digest": evaluation["parityDigest"]}
    pods_say.know_nothing_of_parity(runs.namespace, "slipway-serve-chat-v2-")
    status = runs.apply("second", endpoint="chat").reaches("Failed", 60)
    assert "ParityUnknown" in str(status["conditions"])
    assert (endpoint.live["version"], endpoint.routed) == (1, "1")
    assert "model.acceptUnjudged" in endpoint.shows("ParityUnknown", "NotCompared")


def test_a_refused_rollout_is_tried_again_when_the_run_is_asked_to(runs, pods_say):
    pods_say.refuse_prompts(runs.namespace, "slipway-serve-chat-v1-", "not now")
    run = runs.apply("again")
    run.reaches("Failed", 60)
    run.annotate("retry", "1")
    run.reaches("Serving", 60)
    assert runs.endpoint().live["version"] == 2


def test_B_a_candidate_whose_server_crashes_never_gets_traffic(runs):
    runs.apply("first", endpoint="hold-2-x").reaches("Serving")
    second = runs.apply("second", endpoint="hold-2-x")
    endpoint = runs.endpoint("hold-2-x")
    endpoint.pod(2).crashes(1, "CUDA error")
    second.reaches("Failed", 60)
    assert (endpoint.live["version"], endpoint.routed) == (1, "1")


def test_B_a_version_that_fails_in_its_probation_gives_way_to_the_one_before(runs):
    template = {"rollout": {"probation": "60s", "drain": "1s"}}
    runs.apply("first", endpoint="hold-2-x", template=template).reaches("Serving")
    runs.apply("second", endpoint="hold-2-x", template=template)
    endpoint = runs.endpoint("hold-2-x")
    pod = endpoint.pod(2).runs()
    endpoint.reaches("Serving", version=2)
    assert endpoint.versions == ["1", "2"]
    pod.crashes(139, "segmentation fault")
    endpoint.reaches("Serving", version=1)
    eventually(lambda: endpoint.routed == "1", "the traffic is back")
    endpoint.in_history(2, "Failed")


def test_a_candidate_that_cannot_be_placed_waits_beside_the_live_version(runs):
    runs.apply("first").reaches("Serving")
    # cpu that the node does not have; the settings make a version.
    runs.endpoint().edit(resources={"requests": {"cpu": "100000"}})
    assert "Version 1 stays live meanwhile" in runs.endpoint().shows("CandidateUnschedulable", "NoNodeFits")
    assert runs.endpoint().routed == "1"
    runs.endpoint().edit(resources=None)
    runs.endpoint().reaches("Serving", version=1)
    eventually(lambda: runs.endpoint().versions == ["1"], "the candidate is gone")


def test_recreate_runs_one_version_at_a_time(runs):
    template = {"rollout": {**QUICK, "strategy": "Recreate"}}
    runs.apply("first", template=template).reaches("Serving")
    runs.apply("second", template=template).reaches("Serving")
    endpoint = runs.endpoint()
    assert endpoint.routed == "2"
    eventually(lambda: endpoint.versions == ["2"], "version 1 is gone")


def test_recreate_puts_the_last_good_version_back(runs, pods_say):
    template = {"rollout": {**QUICK, "strategy": "Recreate"}}
    runs.apply("first", template=template).reaches("Serving")
    pods_say.refuse_prompts(runs.namespace, "slipway-serve-chat-v2-", "no")
    runs.apply("second", template=template).reaches("Failed", 60)
    endpoint = runs.endpoint()
    endpoint.reaches("Serving", version=1)
    assert endpoint.routed == "1"


def test_rollback_to_a_version_of_the_history(runs):
    runs.apply("first").reaches("Serving")
    runs.apply("second").reaches("Serving")
    endpoint = runs.endpoint()
    endpoint.edit(rollbackTo=1)
    endpoint.reaches("Serving", version=3)
    assert endpoint.live["run"] == "first"
    endpoint.edit(rollbackTo=9)
    assert "spec.rollbackTo is 9" in endpoint.shows("RollbackUnknown", "NoSuchVersion")


def test_A_an_endpoint_made_by_hand_needs_a_verdict_or_says_for_ever_that_it_has_none(runs):
    endpoint = runs.endpoint("by-hand")
    endpoint.apply(model={"uri": "pvc://models/a-model", "digest": OTHER}, rollout=QUICK)
    message = endpoint.shows("Judged", "NoPassingVerdict", "False")
    assert OTHER in message
    assert endpoint.versions == []
    with bound_claim(runs.api, runs.namespace, "models"):
        endpoint.edit(model=unjudged())
        endpoint.reaches("Serving", version=1)
    endpoint.shows("Judged", "AcceptedUnjudged", "False")


def test_A_a_verdict_lets_an_endpoint_made_by_hand_start(runs):
    run = runs.apply("judged", endpoint=None)
    artifact = run.reaches("Completed")["artifact"]
    endpoint = runs.endpoint("by-hand")
    endpoint.apply(model=artifact, rollout=QUICK)
    endpoint.reaches("Serving", version=1)
    endpoint.shows("Judged", "Passed")


def test_of_two_runs_that_promote_at_once_the_later_has_the_endpoint(runs):
    first = runs.apply("hold-evaluate-1-first")
    second = runs.apply("hold-evaluate-1-second")
    later = max(first, second, key=lambda run: (run.manifest["metadata"]["creationTimestamp"], run.uid))
    earlier = first if later is second else second
    pods = [run.pod("evaluate") for run in (earlier, later)]
    for pod in reversed(pods):
        pod.ends(0, pod.evaluation(perplexity=9))
    later.reaches("Serving")
    earlier.reaches("Completed")
    assert earlier.condition("Live")["reason"] in ("Superseded", "Replaced")
    assert runs.endpoint().live["run"] == later.name


def test_A_a_rejected_run_leaves_the_live_version_alone(runs):
    runs.apply("first").reaches("Serving")
    bad = runs.apply("hold-evaluate-1-bad")
    pod = bad.pod("evaluate")
    pod.ends(0, pod.evaluation(perplexity=99))
    bad.reaches("Rejected")
    endpoint = runs.endpoint()
    assert (endpoint.live["run"], endpoint.routed, endpoint.versions) == ("first", "1", ["1"])


def test_a_gate_against_the_live_version_is_measured_against_it(runs):
    runs.apply("first").reaches("Serving")
    live = runs.endpoint().live["digest"]
    status = runs.apply("second", evaluation=AGAINST_LIVE).reaches("Serving")
    assert status["evaluation"]["baselineDigest"] == live


def test_a_live_version_of_an_object_store_is_read_with_the_secret_of_its_endpoint(runs):
    runs.api.create({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "store"}}, runs.namespace)
    endpoint = runs.endpoint()
    endpoint.apply(model={**unjudged(), "uri": "s3://models/chat", "credentials": "store"}, rollout=QUICK)
    endpoint.reaches("Serving", version=1)
    run = runs.apply("better", evaluation=AGAINST_LIVE)
    assert run.reaches("Serving")["evaluation"]["baselineDigest"] == OTHER
    (job,) = run.jobs("evaluate")
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert container["envFrom"] == [{"prefix": "SLIPWAY_SECRET_", "secretRef": {"name": "store"}}]
    assert container["args"][-2:] == ["--baseline", f"s3://models/chat@{OTHER}"]


def test_an_endpoint_outlives_its_run_and_so_does_the_verdict(runs):
    run = runs.apply("gone")
    run.reaches("Serving")
    run.delete()
    eventually(lambda: run.jobs() == [], "the Jobs of the run are gone")
    endpoint = runs.endpoint()
    assert endpoint.reaches("Serving", version=1)
    assert endpoint.routed == "1"
    assert [one["data"]["digest"] for one in verdicts(run.api, run.namespace)] == [model_digest(run.uid)]
    held_out = endpoint.status["heldOut"]
    assert (held_out["judgements"], [one["uid"] for one in held_out["counted"]]) == (1, [run.uid])


def test_an_endpoint_that_is_deleted_takes_everything_with_it(runs):
    run = runs.apply("well")
    run.reaches("Serving")
    run.delete()
    runs.api.delete(MODEL_ENDPOINT, runs.namespace, "chat")
    eventually(lambda: runs.endpoint().versions == [], "its Deployments are gone")
    eventually(lambda: runs.api.get(SERVICE, runs.namespace, "chat") is None, "its Service is gone")
    selector = f"{names.ENDPOINT}=chat"
    eventually(lambda: runs.api.list(POD, runs.namespace, selector) == [], "its pods are gone")


def test_replicas_and_autoscaling_change_in_place(runs):
    runs.apply("well").reaches("Serving")
    endpoint = runs.endpoint()
    endpoint.edit(replicas=2)
    selector = f"{names.ENDPOINT}=chat"
    eventually(lambda: len(runs.api.list(POD, runs.namespace, selector)) == 2, "there are two pods")
    endpoint.edit(replicas=0)
    eventually(lambda: runs.api.list(POD, runs.namespace, selector) == [], "there is no pod")
    assert endpoint.live["version"] == 1


@pytest.mark.parametrize("field", ["replicas", "port"])
def test_a_field_that_somebody_else_owns_stays_theirs_or_ours_and_nothing_fights(runs, control_plane, field):
    runs.apply("well").reaches("Serving")
    endpoint = runs.endpoint()
    other = {
        "apiVersion": "slipway.dev/v1alpha1",
        "kind": "ModelEndpoint",
        "metadata": {"name": "chat"},
        "spec": {field: 3 if field == "replicas" else 9000},
    }
    runs.api.apply(other, runs.namespace, manager="a-platform-team")
    second = runs.apply("second")
    second.reaches("Serving")
    # Promotion sets the model; what the platform team set is still theirs.
    assert endpoint.manifest["spec"][field] == other["spec"][field]
    before = settled(control_plane.audit_log, runs.namespace)
    time.sleep(3)
    assert by_operator(writes(control_plane.audit_log, runs.namespace)) == before


def test_A_a_model_that_was_judged_by_enough_waits_for_its_approval_and_one_by_less_goes_nowhere(
    runs, control_plane, monkeypatch
):
    endpoint = runs.endpoint()
    endpoint.apply(promotion={"mode": "Approval", "requiredGates": [GATE]}, rollout=QUICK, access={"anonymous": True})
    weak = {"data": AGAINST_LIVE["data"], "gates": [{**GATE, "max": 1e9}]}
    lax = runs.apply("lax", evaluation=weak)
    assert "max is 1000000000, and must be at most 20" in lax.shows("LacksRequiredGate", "GateWeaker")
    lax.reaches("Rejected")
    assert "requires gates that this run does not have" in lax.condition("Live")["message"]
    assert "model" not in endpoint.manifest["spec"], "the endpoint was told nothing"
    # What exists goes through gates that are enough, without another training.
    own = runs.apply("own", model={"from": "run://lax"}, stages=[])
    digest = own.reaches("AwaitingApproval")["artifact"]["digest"]
    assert f"`slipway approve own --digest {digest}`" in own.condition("Live")["message"]
    uid = own.manifest["metadata"]["uid"]
    assert endpoint.status["awaitingApproval"] == {
        "digest": digest, "run": "own", "runUid": uid, "evaluation": 1, "remoteCode": False,
    }  # fmt: skip
    assert endpoint.versions == []
    monkeypatch.setenv("KUBECONFIG", str(control_plane.kubeconfig))
    monkeypatch.setenv("SLIPWAY_KUBECTL", str(program("kubectl")))
    approved = CliRunner().invoke(app, ["approve", "own", "--digest", digest, "-n", runs.namespace, "--cluster"])
    assert approved.exit_code == 0, approved.output + repr(approved.exception)
    assert f"judged by  run own (uid {uid}), evaluation 1: Pass" in approved.output
    own.reaches("Serving")
    user = endpoint.live["approval"]["user"]
    assert f"approved as {user}: endpoint chat starts {digest}" in approved.output
    assert (endpoint.live["approval"]["runUid"], endpoint.live["approval"]["evaluation"]) == (uid, 1)
    assert "awaitingApproval" not in endpoint.status
