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
    EvaluationStatus,
    MetricStatus,
    Phase,
    RunEndpointStatus,
    RunStatus,
    StepState,
    StepStatus,
    Verdict,
)


def watch(code=0, *, name="tang"):
    result = CliRunner().invoke(app, ["watch", name, "-n", "team"])
    assert result.exit_code == code, result.output + repr(result.exception)
    return result.stdout


def has(cluster, status, **fields):
    cluster.save(**{"trainingrun/tang": run_document(status, **fields)})


def after_each_look(cluster, monkeypatch, *statuses):
    """Has the run go on when somebody has looked at it, and not after seconds; None changes nothing."""
    follow = cluster_place.ClusterTarget.follow

    def looked_at(self, name):
        later = iter(statuses)
        for run in follow(self, name):
            yield run
            if (status := next(later, None)) is not None:
                has(cluster, status)

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
