"""The commands on a namespace: what they do there, and that their hints lead back there."""

import pytest
from tests.unit.cli.cluster.objects import condition, endpoint_document, run_document
from tests.unit.cli.evidence import DIGEST
from typer.testing import CliRunner

from slipway.main import app
from slipway_core.resources.status import ArtifactStatus, EndpointPhase, EndpointStatus, Phase, RunStatus, VersionStatus

THERE = "-n other --context test"


def slipway(*arguments, code=0):
    result = CliRunner().invoke(app, [*arguments, "-n", "other", "--context", "test"])
    assert result.exit_code == code, result.output + repr(result.exception)
    return result.output


def has(cluster, phase, **spec):
    cluster.save(**{"trainingrun/tang": run_document(RunStatus(phase=phase), **spec)})


@pytest.mark.parametrize(
    ("arguments", "phase", "spec", "hint"),
    [
        (["stop", "tang"], Phase.TRAINING, {}, "resume tang"),
        (["resume", "tang"], Phase.SUSPENDED, {"suspend": True}, "watch tang"),
        (["resume", "tang"], Phase.FAILED, {}, "watch tang"),
        (["status", "tang"], Phase.SUSPENDED, {"suspend": True}, "resume tang"),
    ],
)
def test_a_hint_leads_to_the_namespace_and_context_of_the_run(cluster, arguments, phase, spec, hint):
    has(cluster, phase, **spec)
    assert f"`slipway {hint} {THERE}`" in slipway(*arguments)


@pytest.mark.parametrize("command", ["logs", "plot"])
def test_a_hint_of_a_run_that_has_left_nothing_yet_leads_there_too(cluster, command):
    has(cluster, Phase.PENDING)
    assert f"`slipway status tang {THERE}` says how far it is" in slipway(command, "tang", code=2)


def test_where_no_context_was_asked_for_the_namespace_is_enough(cluster):
    has(cluster, Phase.TRAINING)
    said = CliRunner().invoke(app, ["stop", "tang", "--cluster"]).stdout
    assert said == "run tang stops at a checkpoint; `slipway resume tang -n team` takes it up again\n"


def test_a_hint_of_an_empty_namespace_leads_there(cluster):
    assert f"`slipway submit FILE {THERE}`" in slipway("status")


def test_b_an_endpoint_that_serves_is_not_removed_and_the_command_that_stops_it_is_named(cluster):
    cluster.save(**{"modelendpoint/chat": endpoint_document("chat")})
    said = slipway("rm", "endpoint/chat", code=2)
    assert f"endpoint chat serves; stop it first: slipway stop endpoint/chat {THERE}" in said
    assert "modelendpoint/chat" in cluster.objects


def test_an_endpoint_is_stopped_then_removed(cluster):
    cluster.save(**{"modelendpoint/chat": endpoint_document("chat")})
    assert f"`slipway resume endpoint/chat {THERE}`" in slipway("stop", "endpoint/chat")
    assert "endpoint chat is removed" in slipway("rm", "endpoint/chat")
    assert "modelendpoint/chat" not in cluster.objects


SILENT = "version 1: its server ended with exit code 1: OSError: damaged"


@pytest.mark.parametrize("readable", [True, False])
def test_doctor_says_why_a_model_that_passed_does_not_answer_as_its_endpoint_tells_it(cluster, readable):
    told = condition("Live", "False", "NotAnswering", "endpoint chat has the model; `slipway status endpoint/chat`")
    made = ArtifactStatus(uri="pvc://a/b", digest=DIGEST)
    told_by = RunStatus(phase=Phase.SERVING, conditions=[told], artifact=made)
    document = run_document(told_by, serving={"endpoint": "chat"})
    ready = condition("Ready", "False", "NotAnswering", SILENT)
    live = VersionStatus(version=1, uri="pvc://a/b", digest=DIGEST, state="Live", since="2026-01-01T12:00:00Z")
    status = EndpointStatus(phase=EndpointPhase.DEGRADED, conditions=[ready], live=live).to_document()
    cluster.save(**{"trainingrun/tang": document, "modelendpoint/chat": endpoint_document("chat", status=status)})
    if not readable:
        cluster.refuse("get modelendpoint", "Error from server (Forbidden): no")
    said = slipway("doctor", "tang", code=1)
    figure = SILENT if readable else told.message
    assert f"✗ endpoint: the model passed and does not answer\n    shown by: {figure}" in said
    assert f"`slipway logs tang --stage serve {THERE}`" in said
