import json
from dataclasses import replace

import pytest
from tests.unit.cli.cluster.objects import condition
from tests.unit.cli.evidence import entered, rejected, rows, run_named

from slipway.diagnosis.finding import Level
from slipway.diagnosis.run_findings import Evidence, diagnose, gather
from slipway_core.lifecycle import verdict
from slipway_core.protocol.estimate import Estimate
from slipway_core.protocol.step_result import StepError, StepResult, encode
from slipway_core.resources.evaluation import Gate
from slipway_core.resources.status import (
    EvaluationStatus,
    Phase,
    Progress,
    RunStatus,
    StepState,
    StepStatus,
    Verdict,
)


def failed(kind, message, step="pretrain"):
    status = RunStatus(
        phase=Phase.FAILED,
        stages=[StepStatus(name=step, state=StepState.FAILED, attempt=2, failures=2, message=message)],
    )
    return Evidence(run_named(), status, errors={step: StepError(kind=kind, message=message)} if kind else {})


@pytest.mark.parametrize(
    ("evidence", "title", "fix"),
    [
        (failed("OutOfMemory", "CUDA out of memory"), "it ran out of memory", "batch.microSequences"),
        (failed("", "exit code 137"), "it ran out of memory", "gradientCheckpointing"),
        (failed("", "ended by SIGKILL", "prepare"), "it ran out of memory", "smaller model"),
        (
            failed("", "it used more memory than its limit (OOMKilled)"),
            "it ran out of memory",
            "gradientCheckpointing",
        ),
        (failed("NoSpace", "no space left"), "the disk is full", "checkpoints.keep (it is 3)"),
        (failed("Diverged", "loss is nan"), "the loss is no number any more", "learningRate"),
        (failed("Overlap", "3 rows"), "held-out data overlaps with the training data", "evaluation.data"),
        (failed("BadData", "a.jsonl:3"), "the data is not right", "line"),
        (
            failed("FetchFailed", "s3://b/c: no answer"),
            "an object store or the hub did not give what was asked of it",
            "answers",
        ),
        (failed("PlanChanged", "another plan"), "its plan was replaced", "ConfigMaps"),
        (failed("Internal", "boom"), "it failed", "slipway logs tang --stage pretrain"),
    ],
)
def test_a_failed_step_is_named_with_its_message_and_what_to_change(evidence, title, fix):
    [finding] = diagnose(evidence)
    assert (finding.level, finding.title) == (Level.PROBLEM, title)
    assert evidence.status.stages[0].message in finding.figure
    assert "(attempt 2; 2 of the 4 failures that end a run)" in finding.figure
    assert fix in finding.fix


def test_a_step_that_is_never_tried_again_counts_nothing():
    evidence = failed("BadData", "a.jsonl:3")
    step = evidence.status.stages[0].model_copy(update={"attempt": 1, "failures": 0})
    [finding] = diagnose(replace(evidence, status=RunStatus(phase=Phase.FAILED, stages=[step])))
    assert finding.figure == "a.jsonl:3 (attempt 1)"


@pytest.mark.parametrize(
    ("type_", "reason", "level"),
    [
        ("SecretMissing", "NotFound", Level.PROBLEM),
        ("Unschedulable", "NoAccelerator", Level.PROBLEM),
        ("Queued", "NoQueue", Level.PROBLEM),
        ("Queued", "Waiting", Level.NOTE),
    ],
)
def test_what_a_run_waits_for_is_named_with_its_message(type_, reason, level):
    status = RunStatus(phase=Phase.PENDING, conditions=[condition(type_, "True", reason, "create it")])
    [finding] = diagnose(Evidence(run_named(), status))
    assert (finding.level, finding.title, finding.figure) == (level, f"it waits: {type_}", "create it")


def test_a_warning_of_a_step_comes_first_while_it_runs_and_stays_when_it_has_ended():
    full = "pretrain: step 4: the checkpoint could not be written"
    running = [StepStatus(name="pretrain", state=StepState.RUNNING, attempt=1)]
    status = RunStatus(
        phase=Phase.TRAINING, stages=running, conditions=[condition("StepWarning", "True", "Warned", full)]
    )
    finding = diagnose(Evidence(run_named(), status))[0]
    assert (finding.level, finding.title, finding.figure) == (Level.PROBLEM, "it goes on with a warning", full)
    step = running[0].model_copy(update={"state": StepState.SUCCEEDED, "progress": Progress(warning="lacks 389 rows")})
    [finding] = diagnose(Evidence(run_named(), RunStatus(phase=Phase.EXPORTING, stages=[step])))
    assert (finding.subject, finding.title, finding.figure) == ("pretrain", "it ended with a warning", "lacks 389 rows")


def test_what_a_step_has_found_is_a_note():
    never = "evaluation.gates[0] (bleu of task (a)) can never pass"
    found = [f"{never}: with all 9 right (or more)", "the judge does not answer"]
    step = StepStatus(name="prepare", state=StepState.SUCCEEDED, attempt=1, progress=Progress(warnings=found))
    findings = diagnose(Evidence(run_named(), RunStatus(phase=Phase.TRAINING, stages=[step])))
    assert {(finding.level, finding.subject) for finding in findings} == {(Level.NOTE, "prepare")}
    assert [finding.title for finding in findings] == [never, "it warns"]
    assert [finding.figure for finding in findings] == found


def test_a_run_whose_endpoint_requires_other_gates_goes_on_and_is_warned_of_it():
    told = condition("LacksRequiredGate", "True", "GateWeaker", "max is 1e9")
    finding = diagnose(Evidence(run_named(), RunStatus(phase=Phase.TRAINING, conditions=[told])))[0]
    assert (finding.level, finding.title, finding.figure) == (
        Level.PROBLEM,
        "it goes on with a warning",
        "max is 1e9",
    )


def report(finish_reasons=None, samples=(), **metrics):
    generation = {"samples": samples, "finish_reasons": finish_reasons or {"stop": 10}, "max_new_tokens": 64}
    return {"metrics": metrics, "candidate": {"generation": generation}}


LOOP = {"conversations": [{"role": "user", "content": "背诵《夜思》"}], "answer": "床前床前床前床前床前床前"}
WRONG = {"conversations": [{"role": "user", "content": "背诵"}], "answer": "月", "wanted": "床前看月光", "exact": False}


@pytest.mark.parametrize(
    ("found", "title", "figure"),
    [
        (report(perplexity=80.0), "the model predicts held-out text poorly", "80.0"),
        (
            report(empty_rate=0.5, samples=[{**LOOP, "answer": " "}]),
            "answers are empty",
            "50% of the answers are empty, as to",
        ),
        (
            report(repetition_rate=0.7, samples=[WRONG, LOOP]),
            "answers repeat themselves",
            "as to “背诵《夜思》”: “床前床前",
        ),
        (report(distinct_2=0.1), "answers are much alike", "10%"),
        (report({"length": 8, "stop": 2}), "answers do not end", "8 of 10 answers reach 64 tokens"),
        (
            report(recall_rate=0.1, samples=[WRONG]),
            "it recalls little of what it was to learn",
            "wanted “床前看月光”, got “月”",
        ),
    ],
)
def test_poor_generations_are_named_with_their_figure_and_a_sample(found, title, figure):
    [finding] = diagnose(Evidence(run_named(), RunStatus(), report=found))
    assert finding.title == title
    assert figure in finding.figure
    assert finding.fix


@pytest.mark.parametrize("found", [report(perplexity=80.0), report({"length": 8, "stop": 2})])
def test_a_run_that_trains_nothing_is_not_told_to_train_longer(found):
    run = run_named()
    run = run.model_copy(update={"spec": run.spec.model_copy(update={"stages": []})})
    [finding] = diagnose(Evidence(run, RunStatus(), report=found))
    assert "longer" not in finding.fix
    assert "Chat stage" not in finding.fix


def test_a_perplexity_that_the_gates_let_pass_is_no_problem():
    passed = EvaluationStatus(number=1, verdict=Verdict.PASS)
    [finding] = diagnose(Evidence(run_named(), RunStatus(evaluation=passed), report=report(perplexity=150.8)))
    assert (finding.level, finding.title) == (Level.NOTE, "the model predicts held-out text poorly")


def test_good_generations_have_no_finding():
    good = report(perplexity=12.0, empty_rate=0.0, repetition_rate=0.02, distinct_2=0.8, recall_rate=0.95)
    assert diagnose(Evidence(run_named(), RunStatus(), report=good)) == []


def test_gates_are_named_with_value_and_threshold():
    [finding] = diagnose(Evidence(run_named(), rejected()))
    assert finding.title == "bits_per_byte did not pass"
    assert finding.figure == "it is 4.2, asked was <= 3"
    assert finding.fix == "train longer or on more data, or ask for less, in a run of another metadata.name"


def test_of_a_run_that_trains_nothing_a_gate_that_failed_asks_for_another_model():
    run = run_named()
    run = run.model_copy(update={"spec": run.spec.model_copy(update={"stages": []})})
    assert diagnose(Evidence(run, rejected()))[0].fix.startswith("take another model, or ask for less")


def undecided(phase, metric, measured):
    """Returns what doctor says to change of a gate that the verdict leaves open."""
    gate = Gate.model_validate({"metric": metric, "max": 3, "minTokens": 100, "confidence": 0.95}, by_alias=True)
    judged = verdict.judge([gate], measured)
    assert judged.verdict is Verdict.INCONCLUSIVE
    evaluation = EvaluationStatus(number=1, verdict=judged.verdict, metrics=list(judged.metrics))
    [finding] = diagnose(Evidence(run_named(), RunStatus(phase=phase, evaluation=evaluation)))
    assert judged.metrics[0].reason in finding.figure
    return finding.fix


def estimated(value, lower, upper, clusters):
    estimate = Estimate(value=value, n=clusters, clusters=clusters, lower=lower, upper=upper)
    return verdict.Measured({"bits_per_byte": value}, scored_tokens=5000, estimates=[estimate])


AGAIN = "in a run of another metadata.name; with `model: {from: run://tang}` and `stages: []` it trains nothing"


@pytest.mark.parametrize("phase", [Phase.HELD, Phase.REJECTED])
@pytest.mark.parametrize(
    ("measured", "change"),
    [
        (verdict.Measured({"bits_per_byte": 2.0}, scored_tokens=99), "take more held-out rows"),
        (estimated(2.0, 1.9, 2.1, 7), "take more held-out rows"),
        (estimated(2.9, 2.5, 3.2, 50), "take more held-out rows"),
        (estimated(3.0, 2.5, 3.5, 50), "ask for more or for less, "),
    ],
)
def test_more_rows_or_another_figure_need_another_run_whatever_became_of_this_one(phase, measured, change):
    fix = undecided(phase, "bits_per_byte", measured)
    assert fix.startswith(change)
    assert fix.endswith(AGAIN)
    assert "reevaluate" not in fix


@pytest.mark.parametrize(
    ("phase", "fix"),
    [
        (Phase.HELD, "mend the cause, then `slipway reevaluate tang`"),
        (Phase.REJECTED, f"mend the cause, and judge the model {AGAIN}"),
    ],
)
def test_a_gate_without_a_figure_is_judged_again_where_the_run_is_held(phase, fix):
    assert undecided(phase, "perplexity", verdict.Measured({"perplexity": float("nan")})) == fix


def test_what_to_type_leads_to_the_place_of_the_run():
    [finding] = diagnose(replace(failed("Internal", "boom"), options="-n team"))
    assert finding.fix == "see `slipway logs tang --stage pretrain -n team`"


def test_truncated_documents_are_counted():
    prepared = {"stages": {"sft": {"train": {"documents": 100, "truncated": 7}}}}
    [finding] = diagnose(Evidence(run_named(), RunStatus(), prepared=prepared))
    assert finding.figure == "7 of 100 lost their end at 512 tokens"


def test_evidence_is_read_from_what_the_run_left(tmp_path):
    status = rejected()
    folder = entered(tmp_path, status=status, curves={"pretrain": rows([3.0] * 40)})
    workspace = folder.workspace()
    result = StepResult(step="sft", attempt=1, error=StepError(kind="OutOfMemory", message="no memory"))
    workspace.result("sft", 1).parent.mkdir()
    workspace.result("sft", 1).write_text(encode(result))
    workspace.result("pretrain", 1).write_text("{ cut o")
    workspace.report(1).parent.mkdir(parents=True)
    workspace.report(1).write_text(json.dumps(report(perplexity=80.0)))
    evidence = gather(folder.load(), status, workspace)
    assert evidence.errors == {"sft": result.error}
    assert {finding.title for finding in diagnose(evidence)} == {
        "the loss does not fall",
        "bits_per_byte did not pass",
        "the model predicts held-out text poorly",
    }


def test_nothing_left_is_no_error(tmp_path):
    folder = entered(tmp_path)
    assert diagnose(gather(folder.load(), RunStatus(), folder.workspace())) == []
