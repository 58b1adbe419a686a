"""A run that is over says how its model fares now, which its endpoint knows and the run's own status does not."""

import json
import os
from datetime import UTC, datetime

import pytest
from tests.unit.cli.cluster.objects import condition
from tests.unit.cli.judged_run import judged, served
from typer.testing import CliRunner

from slipway.local.processes import ProcessId
from slipway.local.state import ServerEnd, State
from slipway.main import app
from slipway_core.resources.status import EndpointPhase, Phase, RunEndpointStatus
from slipway_core.resources.training_run import Serving

URL = "http://127.0.0.1:8123"
LIVE = condition("Live", "True", "Serving", "endpoint chat serves the model as version 3")
SILENT = condition(
    "Live", "False", "NotAnswering", "version 3 does not answer yet; `slipway status endpoint/chat` says why"
)
WHY = "version 3: weights.safetensors: damaged: 12 bytes. Put it back from a copy"


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "no-kubeconfig"))


def slipway(*arguments, code=0):
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == code, result.output + repr(result.exception)
    return result.stdout


def told(workdir, live=LIVE, phase=Phase.SERVING):
    """Enters a run whose status says how its model fared when it was last at work. Returns it with its endpoint."""
    run = judged(workdir)
    endpoint = served(workdir, run)
    place = RunEndpointStatus(name="chat", url=URL, version=3)
    run.save_status(run.status().model_copy(update={"phase": phase, "conditions": [live], "endpoint": place}))
    return run, endpoint


def is_now(endpoint, phase, ready=None, **changes):
    """Has the endpoint say this, by a process that is there."""
    endpoint.save_daemon(ProcessId.of(os.getpid()))
    rows = [ready] if ready is not None else []
    endpoint.save_status(endpoint.status().model_copy(update={"phase": phase, "conditions": rows, **changes}))


def live_now():
    status = json.loads(slipway("status", "tang", "-o", "json"))["status"]
    (live,) = status["conditions"]
    return live["status"], live["reason"]


def test_a_run_whose_endpoint_is_stopped_does_not_say_that_it_serves(tmp_path):
    told(tmp_path)
    page = slipway("status", "tang")
    assert "endpoint chat has the model as version 3 and is stopped; `slipway run` with the run's file" in page
    assert "endpoint  chat  Stopped" in page
    assert "serves" not in page
    assert URL not in page
    report = slipway("report", "tang")
    assert "version 3 at chat, which is stopped" in report
    assert "serves at" not in report
    assert "chat 的版本 3，已停止服务" in slipway("report", "tang", "--lang", "zh")
    assert live_now() == ("False", "Stopped")
    assert "· endpoint: it is stopped" in slipway("doctor", "tang", code=1)


def test_a_run_whose_endpoint_answers_serves(tmp_path):
    _, endpoint = told(tmp_path)
    is_now(endpoint, EndpointPhase.SERVING)
    assert f"endpoint  chat  {URL}" in slipway("status", "tang")
    assert "serves at chat, version 3" in slipway("report", "tang")
    assert live_now() == ("True", "Serving")
    assert "endpoint" not in slipway("doctor", "tang", code=1)


def test_a_run_whose_server_comes_up_after_the_wait_was_over_says_that_it_serves(tmp_path):
    _, endpoint = told(tmp_path, SILENT, Phase.ROLLING_OUT)
    is_now(endpoint, EndpointPhase.SERVING)
    assert live_now() == ("True", "Serving")
    assert "✗ endpoint" not in slipway("doctor", "tang", code=1)


def test_a_server_that_died_since_is_told_with_the_reason_of_its_endpoint(tmp_path):
    _, endpoint = told(tmp_path)
    is_now(endpoint, EndpointPhase.DEGRADED, condition("Ready", "False", "NotAnswering", WHY))
    assert live_now() == ("False", "NotAnswering")
    assert "version 3 at chat does not answer" in slipway("report", "tang")
    said = slipway("doctor", "tang", code=1)
    assert said.startswith(f"✗ endpoint: the model passed and does not answer\n    shown by: {WHY}\n    change:   mend")
    assert "`slipway logs tang --stage serve`" in said


def test_a_model_that_does_not_start_is_a_problem_before_the_note_that_nobody_is_at_work(tmp_path):
    _, endpoint = told(tmp_path, SILENT, Phase.ROLLING_OUT)
    for number in (1, 2):
        endpoint.add_server_end(3, ServerEnd(datetime.now(UTC), f"{WHY} ({number})", number))
    said = slipway("doctor", "tang", code=1)
    why = f"endpoint chat is stopped; the server of version 3 ended last of this: {WHY} (2)"
    assert said.startswith(f"✗ endpoint: the model passed and does not answer\n    shown by: {why}\n")
    assert said.index("nobody is at work on it") > said.index(why)


def test_a_rollout_that_failed_is_a_problem_with_its_reason(tmp_path):
    told(tmp_path, condition("Live", "False", "RolloutFailed", WHY), Phase.FAILED)
    said = slipway("doctor", "tang", code=1)
    assert said.startswith(f"✗ endpoint: the model passed and could not be served\n    shown by: {WHY}\n")


@pytest.mark.parametrize("case", ["another model", "damaged", "gone"])
def test_an_endpoint_that_says_nothing_of_the_model_changes_nothing(tmp_path, case):
    _, endpoint = told(tmp_path)
    if case == "another model":
        other = endpoint.status().live.model_copy(update={"digest": "sha256:" + "9" * 64})
        is_now(endpoint, EndpointPhase.DEGRADED, live=other)
    elif case == "damaged":
        (endpoint.root / "status.json").write_text("{")
    else:
        (endpoint.root / "endpoint.json").unlink()
    assert live_now() == ("True", "Serving")


def test_who_works_on_the_run_has_its_status_as_it_was_written(tmp_path):
    told(tmp_path)
    (live,) = State.below(tmp_path).run("tang").load().status.conditions
    assert live.status == "True"


def test_b_a_live_model_that_does_not_answer_beside_a_candidate_is_not_said_to_serve(tmp_path):
    _, endpoint = told(tmp_path)
    live = endpoint.status().live
    candidate = live.model_copy(update={"version": 4, "state": "Starting", "digest": f"sha256:{4:064x}"})
    is_now(endpoint, EndpointPhase.ROLLING_OUT, condition("Ready", "False", "NotAnswering", WHY), candidate=candidate)
    assert live_now() == ("False", "NotAnswering")
    is_now(endpoint, EndpointPhase.ROLLING_OUT, condition("Ready", "True", "Answering", "it answers"))
    assert live_now() == ("True", "Serving")


def test_who_looks_on_is_told_why_a_live_model_does_not_answer_and_waits_no_longer_than_was_asked(tmp_path):
    run, endpoint = told(tmp_path)
    serving = Serving(endpoint="chat")
    run.save(run.load().model_copy(update={"spec": run.load().spec.model_copy(update={"serving": serving})}))
    is_now(endpoint, EndpointPhase.DEGRADED, condition("Ready", "False", "NotAnswering", WHY))
    said = slipway("watch", "tang", "--start-timeout", "1s", code=1)
    assert f"The model passed and does not answer: it did not answer within 1 s: {WHY}\n" in said
    assert "goes on trying until `slipway stop endpoint/chat`" in said
    assert "Serving. Chat with it" not in said


def test_a_run_that_is_to_serve_nothing_any_more_is_not_waited_for(tmp_path):
    _, endpoint = told(tmp_path, SILENT)
    is_now(endpoint, EndpointPhase.DEGRADED, condition("Ready", "False", "NotAnswering", WHY))
    assert f"The model was live and does not answer now: {SILENT.message}" in slipway("watch", "tang", code=1)


def test_who_looks_on_is_told_that_somebody_stopped_the_endpoint(tmp_path):
    told(tmp_path)
    said = slipway("watch", "tang")
    assert "The model was live and does not answer now: endpoint chat has the model as version 3 and is stopped" in said
    assert "Serving. Chat with it" not in said
