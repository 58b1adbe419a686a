"""What a person is told who looks on while a cluster works on a run, and how it ended."""

from datetime import UTC, datetime, timedelta

import pytest
from tests.unit.cli.cluster.objects import condition, endpoint_document, run_document
from tests.unit.cli.evidence import DIGEST, rejected
from typer.testing import CliRunner

from slipway.cluster import target as cluster_place
from slipway.main import app
from slipway.screen import watching
from slipway_core.lifecycle.verdict import RESTS_ON
from slipway_core.resources.status import (
    ArtifactStatus,
    EvaluationStatus,
    MetricStatus,
    Phase,
    RunEndpointStatus,
    RunStatus,
    StepState,
    StepStatus,
    Verdict,
)


def watch(code=0, *options, name="tang"):
    result = CliRunner().invoke(app, ["watch", name, "-n", "team", *options])
    assert result.exit_code == code, result.output + repr(result.exception)
    return result.stdout


def has(cluster, status, **fields):
    cluster.save(**{"trainingrun/tang": run_document(status, **fields)})


def after_each_look(cluster, monkeypatch, *statuses, **fields):
    """Has the run go on when somebody has looked at it, and not after seconds; None changes nothing."""
    follow = cluster_place.ClusterTarget.follow

    def looked_at(self, name):
        later = iter(statuses)
        for run in follow(self, name):
            yield run
            if (status := next(later, None)) is not None:
                has(cluster, status, **fields)

    monkeypatch.setattr(cluster_place.ClusterTarget, "follow", looked_at)


def test_a_failed_run_says_why_and_which_commands_say_more(cluster):
    step = StepStatus(name="prepare", state=StepState.FAILED, attempt=1, message="BadData: rows.jsonl:3: no text")
    why = condition("Progressing", "False", "BadInput", "prepare: BadData: rows.jsonl:3: no text")
    has(cluster, RunStatus(phase=Phase.FAILED, stages=[step], conditions=[why]))
    said = watch(2)
    assert "run tang is Failed" in said
    assert "Failed: prepare: BadData: rows.jsonl:3: no text" in said
    assert "See `slipway logs tang -n team` and `slipway doctor tang -n team`." in said


def test_a_rejected_run_shows_its_gates(cluster):
    has(cluster, rejected())
    said = watch(3)
    assert "bits_per_byte" in said
    assert "`slipway doctor tang -n team` says what to change" in said


def test_a_held_run_says_how_it_is_judged_again(cluster):
    held = EvaluationStatus(number=1, verdict=Verdict.INCONCLUSIVE, reason="perplexity is nan")
    has(cluster, RunStatus(phase=Phase.HELD, evaluation=held))
    assert "`slipway reevaluate tang -n team`" in watch(3)


def test_a_held_run_that_wants_rows_is_not_to_be_judged_again_on_the_same(cluster):
    few = MetricStatus(
        name="bits_per_byte", value=2.0, threshold="<= 3", verdict=Verdict.INCONCLUSIVE, reason=f"{RESTS_ON}99 tokens"
    )
    held = EvaluationStatus(number=1, verdict=Verdict.INCONCLUSIVE, reason="too few", metrics=[few])
    has(cluster, RunStatus(phase=Phase.HELD, evaluation=held))
    said = watch(3)
    assert "Take more held-out rows" in said
    assert "`model: {from: run://tang}` and `stages: []`" in said
    assert "reevaluate" not in said


def test_a_run_that_serves_says_where_and_how_to_chat(cluster):
    endpoint = RunEndpointStatus(name="harbour", url="http://harbour.team.svc:8000", version=1)
    has(cluster, RunStatus(phase=Phase.SERVING, endpoint=endpoint))
    cluster.save(**{"modelendpoint/harbour": endpoint_document("harbour", access={"keysSecret": "keys"})})
    said = watch()
    assert "slipway chat harbour -n team" in said
    assert "http://harbour.team.svc:8000/" in said
    assert "export SLIPWAY_API_KEY" in said


def test_b_a_run_that_did_not_pass_says_what_still_serves(cluster):
    live = {"version": 3, "uri": "pvc://a/b", "digest": DIGEST, "run": "older", "state": "Live"}
    status = {"phase": "Serving", "live": {**live, "since": "2026-01-01T00:00:00Z"}}
    cluster.save(**{"modelendpoint/harbour": endpoint_document("harbour", status=status)})
    has(cluster, rejected(), serving={"endpoint": "harbour"})
    assert "Endpoint harbour still serves version 3 of run older." in watch(3)


def test_what_a_run_waits_for_is_said_once(cluster, monkeypatch):
    step = StepStatus(name="prepare", state=StepState.RUNNING, attempt=1)
    missing = condition("SecretMissing", "True", "NotFound", "the Secret hf does not exist in this namespace")
    waiting = RunStatus(phase=Phase.PENDING, stages=[step], conditions=[missing])
    has(cluster, waiting)
    done = step.model_copy(update={"state": StepState.SUCCEEDED})
    planned = waiting.model_copy(update={"plan_digest": DIGEST})
    after_each_look(cluster, monkeypatch, planned, RunStatus(phase=Phase.COMPLETED, stages=[done]))
    said = watch()
    assert said.count("waits: SecretMissing: the Secret hf does not exist in this namespace") == 1
    assert "prepare is done (attempt 1)" in said


def test_a_run_that_no_operator_looks_at_says_so(cluster, monkeypatch):
    monkeypatch.setattr(cluster_place, "_SILENCE", 0.1)
    created = datetime.now(UTC) - timedelta(seconds=cluster_place.UNSEEN_SECONDS + 1)
    has(cluster, None, created=created)
    after_each_look(cluster, monkeypatch, None, RunStatus(phase=Phase.COMPLETED))
    assert watch().count("no operator has looked at it") == 1


SILENT = "endpoint harbour has the model as version 1, which does not answer"
ENDED = "version 1: its server ended with exit code 1: OSError: damaged"


def does_not_answer(phase, reason="NotAnswering", **endpoint):
    """Has the endpoint harbour not answer for its run, as the operator says it."""
    live, serves = condition("Live", "False", reason, SILENT), phase is Phase.SERVING
    progressing = condition("Progressing", str(not serves), "Serving" if serves else "RollingOut", SILENT)
    ready = condition("Ready", "False", reason, ENDED).to_document()
    status = {"phase": "Degraded", "conditions": [ready], "live": _version(1), **endpoint}
    document = endpoint_document("harbour", status=status)
    reached = RunEndpointStatus(name="harbour", url="http://harbour.team.svc:8000", version=1)
    made = ArtifactStatus(uri="pvc://a/b", digest=DIGEST)
    return RunStatus(phase=phase, artifact=made, endpoint=reached, conditions=[live, progressing]), document


def _version(number, state="Live", **fields):
    version = {"version": number, "uri": "pvc://a/b", "digest": DIGEST, "run": "older", "state": state, **fields}
    return {**version, "since": "2026-01-01T00:00:00Z"}


@pytest.mark.parametrize("phase", [Phase.SERVING, Phase.ROLLING_OUT])
def test_a_model_that_passed_and_does_not_answer_is_not_said_to_serve_nor_waited_for_without_end(
    cluster, monkeypatch, phase
):
    monkeypatch.setattr(cluster_place, "_SILENCE", 0.1)
    status, document = does_not_answer(phase)
    cluster.save(**{"modelendpoint/harbour": document})
    has(cluster, status, serving={"endpoint": "harbour"})
    said = watch(1, "--start-timeout", "1s")
    assert f"The model passed and does not answer: it did not answer within 1 s: {ENDED}\n" in said
    assert "Serving. Chat with it" not in said
    assert "still serves" not in said
    assert "See `slipway logs tang --stage serve -n team` and `slipway doctor tang -n team`." in said
    assert "Endpoint harbour goes on trying until `slipway stop endpoint/harbour -n team`" in said


def test_b_a_candidate_that_is_not_waited_for_any_longer_leaves_what_still_serves(cluster, monkeypatch):
    monkeypatch.setattr(cluster_place, "_SILENCE", 0.1)
    waits = "no node takes the pod harbour-v2-0"
    live, message = condition("Live", "False", "RollingOut", waits), "its pods wait for a place on a node"
    older = _version(1, digest="sha256:" + "b" * 64)
    candidate = _version(2, "Starting", message=message)
    status, document = does_not_answer(Phase.ROLLING_OUT, live=older, candidate=candidate)
    document["status"]["conditions"] = [condition("Ready", "True", "Answering", "version 1 answers").to_document()]
    cluster.save(**{"modelendpoint/harbour": document})
    has(cluster, status.model_copy(update={"conditions": [live]}), serving={"endpoint": "harbour"})
    said = watch(1, "--start-timeout", "1s")
    assert f"it did not answer within 1 s: {message}\n" in said
    assert "Endpoint harbour goes on trying; the same command waits again." in said
    assert "slipway stop" not in said, "that stops what still serves too"
    assert "Endpoint harbour still serves version 1 of run older." in said


def test_of_a_model_that_answers_with_its_earlier_settings_nothing_is_said_that_would_stop_it(cluster, monkeypatch):
    monkeypatch.setattr(cluster_place, "_SILENCE", 0.1)
    candidate = _version(2, "Starting", message="its pods wait for a place on a node")
    status, document = does_not_answer(Phase.ROLLING_OUT, candidate=candidate)
    document["status"]["conditions"] = [condition("Ready", "True", "Answering", "version 1 answers").to_document()]
    cluster.save(**{"modelendpoint/harbour": document})
    live = condition("Live", "True", "Serving", "endpoint harbour takes up its new settings")
    has(cluster, status.model_copy(update={"conditions": [live]}), serving={"endpoint": "harbour"})
    said = watch(1, "--start-timeout", "1s")
    assert (
        "The model answers, and not yet with the settings that its endpoint has now: version 2 did not answer" in said
    )
    assert "Endpoint harbour goes on trying; the same command waits again." in said
    assert "slipway stop" not in said


def test_who_may_not_read_the_endpoint_reads_why_and_does_not_wait_without_end(cluster, monkeypatch):
    monkeypatch.setattr(cluster_place, "_SILENCE", 0.1)
    status, _ = does_not_answer(Phase.SERVING)
    has(cluster, status, serving={"endpoint": "harbour", "template": {"rollout": {"startTimeout": "1s"}}})
    cluster.refuse("get modelendpoints", 'Error from server (Forbidden): modelendpoints "harbour" is forbidden: no')
    said = watch(1)
    assert said.count("endpoint harbour may not be read, so why the model does not answer is not known here: ") == 1
    assert f"The model passed and does not answer: it did not answer within 1 s: {SILENT}\n" in said
    assert "Endpoint harbour goes on trying; the same command waits again." in said


def test_a_run_that_is_sent_to_another_endpoint_is_waited_for_there(cluster, monkeypatch):
    monkeypatch.setattr(cluster_place, "_SILENCE", 0.1)
    status, document = does_not_answer(Phase.ROLLING_OUT)
    there = "version 1: no node takes the pod pier-v1-0"
    ready = condition("Ready", "False", "NotAnswering", there).to_document()
    other = {**document["status"], "conditions": [ready]}
    cluster.save(**{"modelendpoint/harbour": document, "modelendpoint/pier": endpoint_document("pier", status=other)})
    has(cluster, status, serving={"endpoint": "harbour"})
    moved = status.model_copy(update={"endpoint": RunEndpointStatus(name="pier", version=1)})
    after_each_look(cluster, monkeypatch, moved, serving={"endpoint": "pier"})
    said = watch(1, "--start-timeout", "1s")
    assert f"The model passed and does not answer: it did not answer within 1 s: {there}\n" in said
    assert "Endpoint pier goes on trying until `slipway stop endpoint/pier -n team`" in said


STEERS, SHOWN = "\x1b[2J\x1b]0;title\x07\u202egone", "␛[2J␛]0;title␇⟨U+202E⟩gone"


def test_no_address_and_no_name_in_a_status_steers_the_terminal(cluster):
    live = condition("Live", "True", "Serving", "it serves")
    endpoint = RunEndpointStatus(name="harbour", url=f"http://{STEERS}[red]", version=1)
    has(cluster, RunStatus(phase=Phase.SERVING, endpoint=endpoint, conditions=[live]))
    assert f"It answers at http://{SHOWN}[red]/" in watch()
    ready = condition("Ready", "True", "Answering", "version 1 answers").to_document()
    status = {"phase": "Serving", "conditions": [ready], "live": _version(1, run=f"{STEERS}[red]")}
    cluster.save(**{"modelendpoint/harbour": endpoint_document("harbour", status=status)})
    has(cluster, rejected(), serving={"endpoint": "harbour"})
    assert f"still serves version 1 of run {SHOWN}[red]." in watch(3)


def test_a_model_that_answers_while_it_is_waited_for_serves(cluster, monkeypatch):
    status, document = does_not_answer(Phase.SERVING)
    cluster.save(**{"modelendpoint/harbour": document})
    has(cluster, status, serving={"endpoint": "harbour"})
    answers = status.model_copy(update={"conditions": [condition("Live", "True", "Serving", "it serves")]})
    after_each_look(cluster, monkeypatch, answers)
    assert "Serving. Chat with it" in watch()


def test_of_an_endpoint_that_somebody_stopped_it_is_said_and_not_waited_for(cluster):
    status, document = does_not_answer(Phase.SERVING, "Stopped")
    cluster.save(**{"modelendpoint/harbour": document})
    has(cluster, status, serving={"endpoint": "harbour"})
    said = watch(0)
    assert f"The model was live and does not answer now: {SILENT}" in said
    assert "Serving. Chat with it" not in said


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["watch", "tang", "--start-timeout", "soon"], "--start-timeout: 'soon'"),
        (["submit", "run.yaml", "--wait", "--start-timeout", "soon"], "--start-timeout: 'soon'"),
        (["submit", "run.yaml", "--start-timeout", "5m"], "nothing is waited for without --wait"),
    ],
)
def test_a_time_that_cannot_be_meant_is_refused_before_anything_is_done(cluster, arguments, why):
    result = CliRunner().invoke(app, [*arguments, "-n", "team"])
    assert result.exit_code == 2
    assert why in result.output
    assert cluster.objects == {}


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        (("Running", 1), ("Waiting", 1), "prepare is tried again: boom"),
        (("Running", 1), ("Succeeded", 1), "prepare is done (attempt 1)"),
        (("Waiting", 1), ("Running", 2), None),
        (("Running", 1), ("Running", 1), None),
    ],
)
def test_steps_that_go_on_elsewhere_are_told_of_as_here(before, after, told):
    def status(state, attempt):
        return RunStatus(stages=[StepStatus(name="prepare", state=StepState(state), attempt=attempt, message="boom")])

    events = watching.changes(status(*before), status(*after))
    assert [event.message for event in events] == ([told] if told else [])


def test_a_rollout_is_told_of_whenever_it_says_something_new():
    def status(message):
        return RunStatus(conditions=[condition("Progressing", "True", "RollingOut", message)])

    assert [event.message for event in watching.changes(status("a"), status("b"))] == ["b"]
    assert watching.changes(status("b"), status("b")) == ()
