"""What a person sees of a run at work, in a terminal and in a log."""

import io

import pytest
from rich.console import Console
from tests.unit.cli.cluster.objects import condition
from tests.unit.core.runs import a_run
from tests.unit.core.world import World

from slipway.screen import view
from slipway.screen.conclusion import conclude
from slipway_core.lifecycle.verdict import Measured, judge
from slipway_core.protocol import step_result
from slipway_core.protocol.estimate import Estimate
from slipway_core.protocol.exit_codes import ExitClass
from slipway_core.protocol.step_result import StepResult
from slipway_core.resources.evaluation import Gate
from slipway_core.resources.events import Event
from slipway_core.resources.status import (
    EvaluationStatus,
    MetricStatus,
    Phase,
    Progress,
    RunEndpointStatus,
    RunStatus,
    StepState,
    StepStatus,
    Verdict,
)

RUNNING = StepStatus(name="prepare", state=StepState.RUNNING, attempt=1)
MISSING = condition("SecretMissing", "True", "NotFound", "the Secret hf does not exist in this namespace")


def shown(kind, *statuses):
    out = io.StringIO()
    with kind(Console(file=out, width=200)) as screen:
        for status in statuses:
            screen(status, ())
    return out.getvalue()


@pytest.mark.parametrize("kind", [view.TableView, view.LineView])
def test_what_a_run_waits_for_is_shown_in_a_terminal_and_in_a_log(kind):
    status = RunStatus(phase=Phase.PENDING, stages=[RUNNING], conditions=[MISSING])
    assert shown(kind, status).count("waits: SecretMissing: the Secret hf does not exist in this namespace") == 1


def test_a_log_says_it_again_only_when_it_is_another_or_comes_again():
    waits = RunStatus(phase=Phase.PENDING, stages=[RUNNING], conditions=[MISSING])
    goes_on = RunStatus(phase=Phase.PREPARING, stages=[RUNNING])
    assert shown(view.LineView, waits, waits, goes_on, waits).count("waits: ") == 2


def test_a_step_that_cannot_start_is_not_said_to_run(monkeypatch):
    monkeypatch.setattr(view, "LINE_SECONDS", 0.0)
    said = shown(view.LineView, RunStatus(phase=Phase.PENDING, stages=[RUNNING], conditions=[MISSING]))
    assert "prepare waits (SecretMissing)" in said
    assert "prepare runs" not in said


def test_a_log_says_that_the_endpoint_starts(monkeypatch):
    """It said nothing for minutes, between the verdict and the address."""
    monkeypatch.setattr(view, "LINE_SECONDS", 0.0)
    done = StepStatus(name="evaluate", state=StepState.SUCCEEDED, attempt=1)
    starts = condition("Progressing", "True", "RollingOut", "version 1 of the endpoint chat starts")
    said = shown(view.LineView, RunStatus(phase=Phase.ROLLING_OUT, stages=[done], conditions=[starts]))
    assert "RollingOut: version 1 of the endpoint chat starts" in said
    assert shown(view.LineView, RunStatus(phase=Phase.AWAITING_APPROVAL, stages=[done], conditions=[starts])) == ""


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (condition("Planned", "False", "RunNotFound", "there is no run a"), True),
        (condition("Planned", "True", "Resolved", "the plan has a digest"), False),
        (condition("Passed", "True", "GatesPassed", "all"), False),
        (condition("Live", "False", "RollingOut", "soon"), False),
        (condition("QuotaExceeded", "True", "ResourceQuota", "no room"), True),
    ],
)
def test_conditions_that_every_run_has_are_nothing_to_wait_for(found, told):
    assert ("waits: " in shown(view.LineView, RunStatus(phase=Phase.PENDING, conditions=[found]))) is told


def test_a_run_that_has_ended_waits_for_nothing():
    assert "waits: " not in shown(view.LineView, RunStatus(phase=Phase.FAILED, conditions=[MISSING]))


@pytest.mark.parametrize(("overlap", "style"), [(2, "yellow"), (0, "dim")])
def test_what_is_known_of_the_live_version_s_training_is_shown(overlap, style):
    known = EvaluationStatus(number=1, verdict=Verdict.PASS, baseline_overlap=overlap, baseline_note="so many")
    note = view.baseline_note(known)
    assert note is not None
    assert (note.plain, note.style) == ("so many", style)
    assert view.baseline_note(EvaluationStatus(number=1, verdict=Verdict.PASS)) is None


def test_where_a_run_is_seen_is_shown_by_its_newest_step():
    tensorboard, mlflow = {"tensorboard": "file:///w/tensorboard"}, {"mlflow": "http://mlflow/#/runs/1"}
    steps = [
        StepStatus(name="learn", state=StepState.SUCCEEDED, progress=Progress(links={**tensorboard, "mlflow": "old"})),
        StepStatus(name="export", state=StepState.SUCCEEDED),
        StepStatus(name="publish", state=StepState.SUCCEEDED, progress=Progress(links=mlflow)),
    ]
    found = view.places(RunStatus(phase=Phase.COMPLETED, stages=steps))
    assert found == {"tensorboard": "tensorboard --logdir /w/tensorboard", **mlflow}
    on_a_claim = Progress(links={"tensorboard": "pvc://claim/run/tensorboard"})
    steps = [StepStatus(name="learn", state=StepState.RUNNING, progress=on_a_claim)]
    assert view.places(RunStatus(stages=steps)) == {"tensorboard": "pvc://claim/run/tensorboard"}


def test_progress_says_what_holds_a_training_up():
    shares = {"compute": 0.6, "data": 0.25, "communication": 0.1, "validation": 0.05}
    told = Progress(step=2, total=9, accuracy=0.875, tokens_per_second=1200, mfu=0.42, time_shares=shares)
    assert view.describe(told) == "step 2/9, accuracy 0.88, 1,200 tok/s, MFU 42%, 25% data, 10% communication"
    over = StepStatus(name="sft", state=StepState.SUCCEEDED, attempt=1, progress=told)
    assert "1,200 tok/s, MFU 42%" in shown(view.TableView, RunStatus(stages=[over]))
    assert "25% data" not in shown(view.TableView, RunStatus(stages=[over])), "it is over"


@pytest.mark.parametrize(
    ("status", "reason", "said"),
    [("False", "PublishFailed", True), ("False", "NotPassed", False), ("True", "Published", False), (None, "", False)],
)
def test_the_last_words_say_what_others_could_not_be_told(status, reason, said):
    own = [condition("Published", status, reason, "tracking.mlflow: away")] if status else []
    out = io.StringIO()
    conclude(
        Console(file=out, width=200), "demo", RunStatus(phase=Phase.COMPLETED, conditions=own),
        lambda *words: " ".join(words), say_where=lambda: None, say_live=lambda: None,
    )  # fmt: skip
    assert ("The verdict is not told everywhere: tracking.mlflow: away" in out.getvalue()) == said


def last_words(status):
    out = io.StringIO()
    conclude(
        Console(file=out, width=200), "demo", status, lambda *words: " ".join(words), say_where=lambda: None,
        say_live=lambda: None,
    )  # fmt: skip
    return out.getvalue()


def test_of_a_rejected_run_the_gates_are_told_in_the_table_alone_and_counted_below_it():
    gates = [Gate(metric=metric, max=2.0, confidence=0.95) for metric in ("perplexity", "bits_per_byte", "empty_rate")]
    estimates = [
        Estimate(4.93889, 4.82633, 5.05145, 99, 40),
        Estimate(2.00004, 2.00001, 2.00009, 99, 40),
        Estimate(0.0, 0.0, 0.1, 99, 40),
    ]
    metrics = {gate.metric: estimate.value for gate, estimate in zip(gates, estimates, strict=True)}
    judged = judge(gates, Measured(metrics, 99, estimates=estimates))
    made = EvaluationStatus(number=1, verdict=judged.verdict, metrics=list(judged.metrics), reason=judged.reason)
    conditions = [condition("Progressing", "False", "Rejected", f"the model did not pass: {judged.reason}")]
    status = RunStatus(phase=Phase.REJECTED, evaluation=made, conditions=conditions)
    said = last_words(status)
    assert "\nRejected: 2 of 3 gates failed\n" in said
    for figure in ("4.93889 (4.82633 to 5.05145)", "2.00004 (2.00001 to 2.00009)"):
        assert figure in judged.reason, "as the event has it"
        assert said.count(figure) == 1
    own = [condition("Progressing", "False", "Rejected", "the model passed its own gates, and the endpoint asks more")]
    passed = status.model_copy(update={
        "conditions": own, "evaluation": made.model_copy(update={"verdict": Verdict.PASS, "metrics": made.metrics[2:]}),
    })  # fmt: skip
    assert "Rejected: the model passed its own gates, and the endpoint asks more" in last_words(passed)
    unread = passed.model_copy(update={"evaluation": None})
    assert "Rejected: the model passed its own gates, and the endpoint asks more" in last_words(unread)


NEVER = "evaluation.gates[0] (exact_match) can never pass"


def warned(*found, state=StepState.RUNNING, warning=None):
    progress = Progress(warnings=list(found) or None, warning=warning)
    return RunStatus(phase=Phase.PREPARING, stages=[StepStatus(name="prepare", state=state, progress=progress)])


@pytest.mark.parametrize("kind", [view.TableView, view.LineView])
def test_what_a_step_has_found_is_told_once_while_the_run_goes_on(kind):
    told = (Event("Warning", "StepWarned", f"prepare: {NEVER}"),)
    out = io.StringIO()
    with kind(Console(file=out, width=200)) as screen:
        screen(warned(), ())
        screen(warned(NEVER), ())
        screen(warned(NEVER, "the judge does not answer"), ())
        screen(warned(NEVER, "the judge does not answer", state=StepState.SUCCEEDED), told)
    assert out.getvalue().count(f"prepare: {NEVER}") == 1
    assert out.getvalue().count("prepare: the judge does not answer") == 1


def test_what_a_step_still_warned_of_at_its_end_is_told_and_what_it_warns_of_now_is_a_condition():
    over = warned(state=StepState.SUCCEEDED, warning="metrics.jsonl lacks 3 rows")
    assert "warning: prepare: metrics.jsonl lacks 3 rows" in shown(view.LineView, over)
    assert "lacks" not in shown(view.LineView, warned(warning="metrics.jsonl lacks 3 rows"))


STEERS = "\x1b[2J\x1b]0;title\x07gone"


@pytest.mark.parametrize("kind", [view.TableView, view.LineView])
def test_nothing_that_others_say_steers_the_terminal(kind):
    """Neither a warning nor an error, an event, a condition, a gate's reason or what is said of the live version."""
    gate = MetricStatus(name="bleu", verdict=Verdict.INCONCLUSIVE, threshold="≥ 1", reason=STEERS)
    judged = EvaluationStatus(number=1, verdict=Verdict.INCONCLUSIVE, metrics=[gate], baseline_note=STEERS)
    conditions = [condition(name, "True", "Other", STEERS) for name in ("Unschedulable", "Progressing")]
    failed = StepStatus(name="learn", state=StepState.FAILED, message=STEERS)
    status = warned(STEERS).model_copy(update={"conditions": conditions, "evaluation": judged})
    status = status.model_copy(update={"stages": [*status.stages, failed]})
    out = io.StringIO()
    with kind(Console(file=out, width=200)) as screen:
        screen(status, (Event("Warning", "StepFailed", f"learn failed: {STEERS}"),))
    said = out.getvalue()
    assert said.count("gone") >= 3
    assert "\x1b]" not in said
    assert "\x1b[2J" not in said
    assert "\x07" not in said
    for part in (view.verdict_table([gate]), view.baseline_note(judged)):
        out = io.StringIO()
        Console(file=out, width=200).print(part)
        assert "␛[2J␛]0;title␇gone" in out.getvalue()


@pytest.mark.parametrize("field", ["name", "threshold"])
def test_no_gate_steers_the_terminal_nor_styles_its_table(field):
    fields = {"name": "bleu", "threshold": "≥ 1", field: f"{STEERS}[red]"}
    out = io.StringIO()
    Console(file=out, width=200).print(view.verdict_table([MetricStatus(verdict=Verdict.PASS, **fields)]))
    assert "␛[2J␛]0;title␇gone[red]" in out.getvalue()


def test_no_figure_of_prepare_steers_the_terminal():
    metrics = {f"{STEERS}_train_split": 3.0}
    done = StepStatus(name="prepare", state=StepState.SUCCEEDED, attempt=1, metrics=metrics)
    out = io.StringIO()
    with view.TableView(Console(file=out, width=200)) as screen:
        screen(RunStatus(stages=[done]), (Event("Normal", "StepSucceeded", "prepare is done (attempt 1)"),))
    assert "note: ␛[2J␛]0;title␇gone, train data: 3 rows longer than maxLength" in out.getvalue()


TURNS = f"{STEERS}\u202e"


FAILS = condition("Progressing", "False", "RolloutFailed", TURNS)
UNJUDGED = EvaluationStatus(number=1, verdict=Verdict.INCONCLUSIVE, reason=TURNS)
SILENT = condition("Live", "False", "NotAnswering", TURNS)
UNTOLD = condition("Published", "False", "PublishFailed", TURNS)


@pytest.mark.parametrize(
    ("status", "begins"),
    [
        (RunStatus(phase=Phase.FAILED, conditions=[FAILS]), "Failed: "),
        (RunStatus(phase=Phase.HELD, evaluation=UNJUDGED), "Held: could not be judged: "),
        (
            RunStatus(phase=Phase.SERVING, endpoint=RunEndpointStatus(name="chat"), conditions=[SILENT]),
            "The model was live and does not answer now: ",
        ),
        (RunStatus(phase=Phase.COMPLETED, conditions=[UNTOLD]), "The verdict is not told everywhere: "),
    ],
)
def test_no_last_words_steer_the_terminal(status, begins):
    said = last_words(status)
    assert f"{begins}␛[2J␛]0;title␇gone⟨U+202E⟩\n" in said
    assert not set("\x1b\x07\u202e") & set(said)


def test_what_was_heard_whole_is_not_told_again_where_the_result_has_it_cut():
    """Of a preparation with gates enough that its result has no room, through the record that both come into."""
    found = [f"{number} {'夜' * 250}" for number in range(6)]
    gates = [f"sha256:{number:064x}" for number in range(28)]
    made = StepResult(step="prepare", attempt=1, held_out_digest=gates[0], gate_data=gates, warnings=found,
                      held_out_sketch="0123456789abcdef" * 64)  # fmt: skip
    world, out = World(a_run()), io.StringIO()
    world.settle()
    with view.LineView(Console(file=out, width=2000)) as screen:
        world._change("prepare", state="Running", progress=Progress(warnings=found))
        screen(world.reconcile().status, ())
        world.end("prepare", ExitClass.DONE, step_result.decode(step_result.encode(made)))
        decision = world.reconcile()
        screen(decision.status, decision.events)
    told = [line.partition("warning: ")[2] for line in out.getvalue().splitlines() if "warning: " in line]
    assert told == [f"prepare: {one}" for one in found]


def test_a_step_that_is_done_shows_what_it_made_and_not_what_it_said_last():
    said = Progress(message="tokenising the data of sft")
    done = {"state": StepState.SUCCEEDED, "attempt": 1, "progress": said}
    prepared = {"pretrain_train_tokens": 400.0, "sft_train_tokens": 600.0, "evaluation_documents": 40.0}
    steps = [
        StepStatus(name="prepare", metrics=prepared, **done),
        StepStatus(name="export", metrics={"bytes": 3 * 2**20, "parameters": 1234567.0}, **done),
        StepStatus(name="evaluate", **done),
        StepStatus(name="publish", **done),
    ]
    told = shown(view.TableView, RunStatus(stages=steps, evaluation=EvaluationStatus(number=1, verdict=Verdict.FAIL)))
    assert "1,000 tokens to learn from, 40 held-out documents" in told
    assert "1,234,567 parameters, 3.0 MiB" in told
    assert "Fail" in told
    assert "tokenising" not in told
    running = [StepStatus(name="prepare", state=StepState.RUNNING, attempt=1, progress=said)]
    assert "tokenising" in shown(view.TableView, RunStatus(stages=running))


def test_a_run_that_was_interrupted_is_not_told_to_change_a_field_that_nobody_can_reach():
    cause = condition("Progressing", "False", "Suspended", "set spec.suspend to false to go on")
    stopped = RunStatus(phase=Phase.SUSPENDED, stages=[RUNNING], conditions=[cause])
    assert "spec.suspend" not in shown(view.TableView, stopped)
