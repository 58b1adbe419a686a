"""`slipway approve`: what waits is said first, and nothing but that is approved, in the user's own name."""

import json

import pytest
from tests.unit.cli.cluster.objects import condition, endpoint_document, run_document
from typer.testing import CliRunner

from slipway.cluster import approval
from slipway.cluster.kubectl import connect
from slipway.cluster.resources import endpoint_of
from slipway.exit_codes import BadInput
from slipway.main import app
from slipway_core.resources.status import (
    ArtifactStatus,
    AwaitingStatus,
    EndpointStatus,
    EvaluationStatus,
    MetricStatus,
    Phase,
    RunStatus,
    Verdict,
    VersionStatus,
)
from slipway_core.rollout.promotion import OWN_CODE

DIGEST, OTHER, LIVE, POEMS = ("sha256:" + letter * 64 for letter in "abcd")
SERVING = {"endpoint": "chat"}
UID = run_document()["metadata"]["uid"]


def slipway(*arguments, code=0):
    result = CliRunner().invoke(app, [*arguments, "-n", "other", "--context", "test"])
    assert result.exit_code == code, result.output + repr(result.exception)
    return result.output


@pytest.fixture
def waits(cluster):
    """The run tang has passed, and its model waits at the endpoint chat, beside a version that is live."""
    metric = MetricStatus(
        name="perplexity", threshold="<= 20", verdict=Verdict.PASS, value=12.5, lower=11.0, upper=14.0, data=POEMS
    )
    evaluation = EvaluationStatus(
        number=3, verdict=Verdict.PASS, artifact_digest=DIGEST, baseline_digest=OTHER, metrics=[metric]
    )
    run = RunStatus(
        phase=Phase.AWAITING_APPROVAL,
        evaluation=evaluation,
        artifact=ArtifactStatus(uri="pvc://models/tang/artifact", digest=DIGEST),
    )
    live = VersionStatus(
        version=4, uri="pvc://a/b", digest=LIVE, run="older", state="Live", since="2026-01-01T00:00:00Z"
    )
    awaiting = AwaitingStatus(digest=DIGEST, run="tang", run_uid=UID, evaluation=3)
    endpoint = EndpointStatus(live=live, awaiting_approval=awaiting)
    document = endpoint_document("chat", status=endpoint.to_document(), promotion={"mode": "Approval"})
    document["metadata"]["resourceVersion"] = "17"
    gates = {"data": [{"uri": "package://tang-held-out"}], "gates": [{"metric": "perplexity", "max": 20}]}
    cluster.save(
        **{
            "trainingrun/tang": run_document(run, serving=SERVING, evaluation=gates),
            "modelendpoint/chat": document,
        }
    )
    return cluster


def notes(cluster):
    return cluster.objects["modelendpoint/chat"]["metadata"].get("annotations", {})


def test_what_waits_is_shown_with_its_figures_and_nothing_is_approved_without_the_digest(waits):
    said = slipway("approve", "tang")
    assert f"model      {DIGEST}" in said
    assert f"judged by  run tang (uid {UID}), evaluation 3: Pass" in said
    assert "perplexity: 12.5 (11 to 14), wanted <= 20: Pass" in said
    assert f"on {POEMS}  perplexity" in said
    assert f"it was compared with {OTHER}, which is not live any more" in said
    assert f"live now   version 4 of run older, {LIVE}" in said
    assert f"`slipway approve tang --digest {DIGEST} -n other --context test`" in said
    assert notes(waits) == {}


def test_A_whoever_approves_is_told_that_the_models_own_code_ran_where_it_was_judged(waits):
    assert "own code" not in slipway("approve", "tang")
    endpoint = waits.objects["modelendpoint/chat"]
    endpoint["status"]["awaitingApproval"]["remoteCode"] = True
    waits.save(**{"modelendpoint/chat": endpoint})
    assert f"beware     {OWN_CODE}" in slipway("approve", "tang")


@pytest.mark.parametrize(("recorded", "warned"), [(None, True), (False, False)])
def test_A_an_operator_that_recorded_no_such_field_says_it_in_the_condition(waits, recorded, warned):
    endpoint = waits.objects["modelendpoint/chat"]
    endpoint["status"]["awaitingApproval"] |= {} if recorded is None else {"remoteCode": recorded}
    assert ("remoteCode" in endpoint["status"]["awaitingApproval"]) is (recorded is not None)
    said = f"{DIGEST} waits for an approval: `slipway approve endpoint/chat --digest {DIGEST}`; {OWN_CODE}"
    endpoint["status"]["conditions"] = [condition("AwaitingApproval", "True", "NotApproved", said).to_document()]
    waits.save(**{"modelendpoint/chat": endpoint})
    assert (f"beware     {OWN_CODE}" in slipway("approve", "tang")) is warned


@pytest.mark.parametrize("serving", [SERVING, {"endpoint": "other"}, None])
def test_A_what_was_shown_is_approved_by_the_name_of_its_run(waits, serving):
    """Another run may have judged the model by then, and the digest is the same."""
    run = waits.objects["trainingrun/tang"]
    del run["spec"]["serving"]
    run["spec"].update({"serving": serving} if serving else {})
    waits.save(**{"trainingrun/tang": run})
    name = "tang" if serving == SERVING else "endpoint/chat"
    said = slipway("approve", "endpoint/chat")
    assert f"nothing is approved yet: `slipway approve {name} --digest {DIGEST} -n other --context test`" in said


@pytest.mark.parametrize(
    ("reason", "message"),
    [
        (
            "AcceptedUnjudged",
            "the spec accepts this model without a verdict, and evaluation 2 of tang came out as Fail",
        ),
        ("Unsigned", "the model has a passing verdict of an earlier release, which signed none"),
    ],
)
def test_A_of_a_model_without_a_judgement_that_counts_it_is_said_what_is_known(waits, reason, message):
    endpoint = waits.objects["modelendpoint/chat"]
    endpoint["status"]["awaitingApproval"] = {"digest": DIGEST}
    endpoint["status"]["conditions"] = [condition("Judged", "False", reason, message).to_document()]
    waits.save(**{"modelendpoint/chat": endpoint})
    assert f"judged by  no run that counts: {message}" in slipway("approve", "endpoint/chat")


def test_an_approval_is_in_the_users_name_and_of_what_waits(waits):
    said = slipway("approve", "endpoint/chat", "--digest", DIGEST)
    assert f"approved as ada: endpoint chat starts {DIGEST}, judged by run tang (uid {UID}), evaluation 3" in said
    assert notes(waits) == {
        "slipway.dev/approved-by": "ada",
        "slipway.dev/approved-digest": DIGEST,
        "slipway.dev/approved-evaluation": "3",
        "slipway.dev/approved-run": UID,
    }
    (patch,) = waits.calls("patch")
    sent = json.loads(patch[patch.index("--patch") + 1])
    assert sent["metadata"]["resourceVersion"] == "17", "of the endpoint as it was shown, or not at all"


@pytest.mark.parametrize("news", [{"digest": OTHER}, {"evaluation": 4}, {"run": "easy"}, {"runUid": "made-anew"}])
def test_A_what_waits_for_another_judgement_by_now_is_not_approved(waits, news):
    endpoint = endpoint_of(waits.objects["modelendpoint/chat"])
    there = waits.objects["modelendpoint/chat"]
    there["status"]["awaitingApproval"].update(news)
    waits.save(**{"modelendpoint/chat": there})
    kubectl = connect("test", "other")
    with pytest.raises(BadInput, match="waits for another model or judgement by now"):
        list(approval.approve(kubectl, endpoint, DIGEST))
    assert notes(waits) == {}


@pytest.mark.parametrize("digest", [OTHER, DIGEST[:30]])
def test_A_another_digest_approves_nothing(waits, digest):
    assert f"what waits at endpoint chat is {DIGEST}" in slipway("approve", "tang", "--digest", digest, code=2)
    assert notes(waits) == {}


def test_A_a_run_whose_model_is_not_what_waits_approves_nothing(waits):
    endpoint = waits.objects["modelendpoint/chat"]
    endpoint["status"]["awaitingApproval"]["digest"] = OTHER
    waits.save(**{"modelendpoint/chat": endpoint})
    said = slipway("approve", "tang", "--digest", OTHER, code=2)
    assert (
        "which is not the model of run tang; `slipway approve endpoint/chat -n other --context test` shows it" in said
    )
    assert notes(waits) == {}


def test_A_a_run_whose_judgement_is_not_what_waits_approves_nothing(waits):
    """It has the model, and they know what it said of it; what waits is the word of another one."""
    endpoint = waits.objects["modelendpoint/chat"]
    endpoint["status"]["awaitingApproval"] = {"digest": DIGEST, "run": "lax", "runUid": "uid-of-lax", "evaluation": 1}
    waits.save(**{"modelendpoint/chat": endpoint})
    for more in ((), ("--digest", DIGEST)):
        said = slipway("approve", "tang", *more, code=2)
        assert f"is {DIGEST}, as judged by run lax (uid uid-of-lax), evaluation 1, and not by the run tang" in said
        assert "`slipway approve endpoint/chat -n other --context test` shows it" in said
    assert notes(waits) == {}
    assert "run lax (uid uid-of-lax)" in slipway("approve", "endpoint/chat", "--digest", DIGEST)


@pytest.mark.parametrize(
    ("status", "promotion", "why"),
    [
        ({}, None, "it asks for no approval (spec.promotion.mode)"),
        ({}, {"mode": "Approval"}, "no new model waits there"),
        ({"ApprovalRefused": "turn on admissionPolicies.enabled"}, {"mode": "Approval"}, "turn on admissionPolicies"),
        ({"LacksRequiredGate": "no gate asks that"}, {"mode": "Approval"}, "no gate asks that"),
    ],
)
def test_where_nothing_can_be_approved_it_says_why(cluster, status, promotion, why):
    own = [condition(type_, "True", "Reason", message).to_document() for type_, message in status.items()]
    asks = {"promotion": promotion} if promotion else {}
    cluster.save(**{"modelendpoint/chat": endpoint_document("chat", status={"conditions": own}, **asks)})
    assert why in slipway("approve", "endpoint/chat", code=2)


@pytest.mark.parametrize("name", ["tang", "endpoint/chat"])
def test_A_of_a_model_that_another_run_judged_since_the_endpoint_says_so(waits, name):
    why = f"{DIGEST} has no passing verdict, so no version of it starts: the run later has judged it since"
    endpoint = waits.objects["modelendpoint/chat"]
    del endpoint["status"]["awaitingApproval"]
    endpoint["status"]["conditions"] = [condition("Judged", "False", "NotPassed", why).to_document()]
    waits.save(**{"modelendpoint/chat": endpoint})
    assert f"no new model waits there: {why}" in slipway("approve", name, code=2)


@pytest.mark.parametrize(("status", "reason"), [("True", "Passed"), ("False", "AcceptedUnjudged")])
def test_what_is_live_waits_for_nothing(waits, status, reason):
    endpoint = waits.objects["modelendpoint/chat"]
    del endpoint["status"]["awaitingApproval"]
    endpoint["status"]["conditions"] = [condition("Judged", status, reason, "and so on").to_document()]
    waits.save(**{"modelendpoint/chat": endpoint})
    assert "no new model waits there" in (said := slipway("approve", "endpoint/chat", code=2))
    assert "and so on" not in said


def test_of_a_model_whose_run_is_gone_the_rest_is_shown(waits):
    left = {name: one for name, one in waits.objects.items() if name != "trainingrun/tang"}
    (waits.root / "objects.json").write_text(json.dumps(left))
    told = f"judged by  run tang (uid {UID}), evaluation 3; its figures are not here: the run is gone"
    assert told in slipway("approve", "endpoint/chat")


def test_A_the_figures_of_another_run_of_that_name_are_not_shown_for_those_of_what_waits(waits):
    run = waits.objects["trainingrun/tang"]
    run["metadata"]["uid"] = "made-anew"
    waits.save(**{"trainingrun/tang": run})
    said = slipway("approve", "endpoint/chat")
    assert f"judged by  run tang (uid {UID}), evaluation 3; its figures are not here: the run is gone" in said
    assert "perplexity" not in said


def test_of_a_model_that_no_run_judged_the_approval_names_none_and_an_earlier_ones_run_goes(waits):
    endpoint = waits.objects["modelendpoint/chat"]
    endpoint["status"]["awaitingApproval"] = {"digest": DIGEST}
    endpoint["metadata"]["annotations"] = {"slipway.dev/approved-run": "of-before"}
    waits.save(**{"modelendpoint/chat": endpoint})
    slipway("approve", "endpoint/chat", "--digest", DIGEST)
    assert notes(waits) == {
        "slipway.dev/approved-by": "ada",
        "slipway.dev/approved-digest": DIGEST,
        "slipway.dev/approved-evaluation": "0",
    }


def test_A_a_refusal_is_told_in_the_words_of_the_policy(waits):
    words = 'modelendpoints.slipway.dev "chat" is forbidden: ValidatingAdmissionPolicy denied request: takes the verb'
    waits.refuse("patch", f"Error from server (Forbidden): {words}")
    assert "takes the verb" in slipway("approve", "tang", "--digest", DIGEST, code=1)


def test_who_looks_on_is_told_what_is_to_be_approved_and_not_kept_waiting(waits):
    run = waits.objects["trainingrun/tang"]
    run["status"]["conditions"] = [
        condition("Progressing", "True", "AwaitingApproval", f"`slipway approve tang --digest {DIGEST}`").to_document()
    ]
    waits.save(**{"trainingrun/tang": run})
    said = slipway("watch", "tang", code=3)
    assert f"AwaitingApproval: `slipway approve tang --digest {DIGEST}`" in said


def test_who_approved_a_version_stands_beside_it(waits, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    endpoint = waits.objects["modelendpoint/chat"]
    endpoint["status"]["live"]["approval"] = {"user": "grace", "evaluation": 3, "at": "2026-01-01T00:00:00Z"}
    waits.save(**{"modelendpoint/chat": endpoint})
    assert "approved by grace" in slipway("status", "endpoint/chat")


def test_on_this_machine_nothing_is_to_be_approved(tmp_path):
    result = CliRunner().invoke(app, ["approve", "tang", "--local", "--workdir", str(tmp_path)])
    assert (result.exit_code, "are of a cluster" in result.output) == (2, True)
