"""An evaluation says what it measured, on what, and leaves out what it could not measure with the reason."""

from __future__ import annotations

import json
import shutil
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.ports import free_port
from tests.unit.trainer.tiny_model import make_model, make_tokenizer
from tests.unit.trainer.trained_run import HELD_OUT, PROMPTS, TrainedRun, make_run

from slipway_core.lifecycle import verdict
from slipway_core.protocol import artifact, parity, step_result, variables
from slipway_core.protocol.step_result import EvaluationResult
from slipway_core.resources.evaluation import Gate
from slipway_core.resources.status import Verdict
from slipway_trainer import export
from slipway_trainer.data.held_out import digest_of_copies
from slipway_trainer.evaluation import baseline, evaluate, generation
from slipway_trainer.model import model_files
from slipway_trainer.step.errors import BadArtifact, BadConfig, DamagedShard, Superseded
from slipway_trainer.step.fence import Fence
from slipway_trainer.tokens import tokenizer

REGRESSION = {"metric": "bits_per_byte", "maxRegression": 0.02}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> TrainedRun:
    return make_run(
        tmp_path_factory.mktemp("run"), gates=[{"metric": "bits_per_byte", "max": 100}, REGRESSION]
    ).export()


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Another run's artifact, with a tokenizer and a length of its own, and its digest."""
    folder = tmp_path_factory.mktemp("live") / "artifact"
    words = make_tokenizer()
    model_files.write_model(make_model(words, positions=48, seed=3), words, folder)
    manifest = artifact.build(folder, run="live", plan_digest="sha256:" + "0" * 64, created_at="2026-01-01T00:00:00Z")
    (folder / artifact.MANIFEST).write_text(artifact.dump(manifest), encoding="utf-8")
    return folder, manifest.digest


def _report(run: TrainedRun, number: int) -> dict[str, Any]:
    return json.loads(run.workspace.report(number).read_text(encoding="utf-8"))


def _judge(result: step_result.StepResult, *gates: dict[str, Any]) -> Verdict:
    assert result.evaluation is not None
    measured = verdict.Measured(
        metrics=result.metrics,
        scored_tokens=result.evaluation.scored_tokens,
        missing=result.missing,
        baseline=result.evaluation.baseline_metrics if result.evaluation.baseline_digest else None,
    )
    return verdict.judge([Gate.model_validate(g) for g in gates], measured).verdict


def test_the_result_and_the_report_say_what_was_measured_on_what(run: TrainedRun) -> None:
    result = evaluate.run(run.plan, run.workspace, attempt=1)
    assert len(step_result.encode(result).encode()) <= step_result.RESULT_LIMIT
    assert step_result.decode(step_result.encode(result)) == result
    assert result.metrics.keys() >= {"perplexity", "bits_per_byte", "recall_count", "empty_rate"}
    evaluation = result.evaluation
    assert evaluation is not None
    assert evaluation.number == 1
    assert evaluation.artifact_digest == artifact.read(run.workspace.artifact).digest
    assert evaluation.recall_overlap == 2
    report = _report(run, 1)
    assert report["metrics"] == result.metrics
    scored = report["candidate"]["perplexity"]
    assert scored["documents"] == len(HELD_OUT)
    assert scored["bytes"] == sum(len(text.encode()) for text in HELD_OUT)
    assert scored["tokens"] == evaluation.scored_tokens > 0
    assert (scored["prefix"], scored["window"], scored["stride"]) == ("<s>", 128, 128)
    assert report["candidate"]["dtype"] == "float32"
    assert report["data"]["digest"] == evaluation.data_digest
    assert report["libraries"].keys() >= {"torch", "transformers"}
    assert report["band"] in ("good", "fair", "poor")
    record = run.workspace.parity(1).read_bytes()
    assert evaluation.parity_digest == parity.digest_of(record) == report["parity"]["digest"]
    assert parity.parse(record, digest=None, artifact=evaluation.artifact_digest).tokens == report["parity"]["tokens"]


def test_every_answer_is_kept_with_its_prompt(run: TrainedRun) -> None:
    evaluate.run(run.plan, run.workspace, attempt=2)
    path = run.workspace.samples(2)
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert [row["conversations"][-1]["content"] for row in rows] == [prompt["prompt"] for prompt in PROMPTS]
    assert [row.get("wanted") for row in rows] == [prompt.get("answer") for prompt in PROMPTS]
    assert [row["source"] for row in rows] == ["prompts.jsonl:1", "prompts.jsonl:2", "prompts.jsonl:3"]
    assert _report(run, 2)["candidate"]["generation"]["samples"] == rows


def test_the_same_artifact_and_data_give_the_same_result(run: TrainedRun) -> None:
    first, second = (evaluate.run(run.plan, run.workspace, attempt=attempt) for attempt in (3, 4))
    assert first.metrics == second.metrics
    assert first.evaluation is not None
    assert second.evaluation is not None
    assert first.evaluation.data_digest == second.evaluation.data_digest


def test_the_live_version_is_measured_on_the_same_data_with_its_own_tokenizer(
    run: TrainedRun, live: tuple[Path, str]
) -> None:
    folder, digest = live
    result = evaluate.run(run.plan, run.workspace, attempt=5, baseline=f"file://{folder}@{digest}")
    assert result.evaluation is not None
    assert result.evaluation.baseline_digest == digest
    assert result.evaluation.baseline_metrics.keys() >= {"bits_per_byte", "perplexity"}
    assert result.evaluation.baseline_metrics["bits_per_byte"] != result.metrics["bits_per_byte"]
    assert evaluate.BASELINE not in result.missing
    alone, worse = result.evaluation.estimates
    assert alone is not None
    assert worse is not None
    assert alone.value == pytest.approx(result.metrics["bits_per_byte"])
    lost = result.metrics["bits_per_byte"] - result.evaluation.baseline_metrics["bits_per_byte"]
    assert worse.value == pytest.approx(lost)
    assert alone.clusters == worse.clusters == len(HELD_OUT)
    told = _report(run, 5)["gates"]
    assert [gate["threshold"] for gate in told] == ["<= 100", "<= live + 0.02"]
    assert told[1]["estimate"]["value"] == worse.value
    beside = _report(run, 5)["baseline"]
    assert beside["perplexity"]["bytes"] == _report(run, 5)["candidate"]["perplexity"]["bytes"]
    assert beside["perplexity"]["window"] == 48
    # No gate compares answers, so those of the live version are there to be looked at and no figure is made of them.
    assert not beside["metrics"].keys() & {"distinct_1", "empty_rate", "recall_rate"}


def test_c_a_live_version_that_has_learned_the_held_out_data_is_said_to_be_flattered(
    run: TrainedRun, live: tuple[Path, str], tmp_path: Path
) -> None:
    """It is no refusal, and where nothing is known that is said."""

    def against(folder: Path, attempt: int) -> EvaluationResult:
        digest = artifact.read(folder).digest
        evaluation = evaluate.run(
            run.plan, run.workspace, attempt=attempt, baseline=f"file://{folder}@{digest}"
        ).evaluation
        assert evaluation is not None
        assert evaluation.baseline_metrics
        assert _report(run, attempt)["baseline"]["training"]["note"] == evaluation.baseline_note
        return evaluation

    unknown = against(live[0], 21)
    assert (unknown.baseline_overlap, unknown.baseline_note) == (
        0,
        "whether the live version learned from the held-out documents is not known: "
        "its artifact has no training-passages.npy",
    )
    apart = against(run.workspace.artifact, 22)
    note = "none of 2 held-out documents (of 3) that could be looked up stands in what the live version learned from"
    assert (apart.baseline_overlap, apart.baseline_note) == (0, note)
    more = [f"A page that begins otherwise. {HELD_OUT[0]}"]
    knowing = make_run(tmp_path / "knowing", held_out=HELD_OUT[1:], more=more).export()
    flattered = against(knowing.workspace.artifact, 23)
    assert flattered.baseline_overlap == 1
    assert flattered.baseline_note is not None
    assert flattered.baseline_note.startswith("1 of 2 held-out documents (of 3) that could be looked up stand in")
    assert _report(run, 23)["baseline"]["training"]["overlapping"] == [1]


def test_a_model_does_not_regress_against_itself(run: TrainedRun) -> None:
    digest = artifact.read(run.workspace.artifact).digest
    result = evaluate.run(run.plan, run.workspace, attempt=6, baseline=f"file://{run.workspace.artifact}@{digest}")
    assert result.evaluation is not None
    for name, value in result.evaluation.baseline_metrics.items():
        assert result.metrics[name] == value
    assert _judge(result, {**REGRESSION, "maxRegression": 0.0}) is Verdict.PASS


def test_answers_are_compared_when_a_gate_asks_for_it(tmp_path: Path) -> None:
    run = make_run(tmp_path, gates=[{"metric": "distinct_1", "maxRegression": 0.1}]).export()
    digest = artifact.read(run.workspace.artifact).digest
    result = evaluate.run(run.plan, run.workspace, attempt=1, baseline=f"file://{run.workspace.artifact}@{digest}")
    assert result.evaluation is not None
    assert result.evaluation.baseline_metrics["distinct_1"] == result.metrics["distinct_1"]


def test_the_live_versions_answers_lie_beside_those_of_the_candidate_cut_where_they_are_long(
    run: TrainedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(baseline, "LONGEST_SAMPLE", 3)
    monkeypatch.setattr(baseline, "SHOWN", 2)
    digest = artifact.read(run.workspace.artifact).digest
    evaluate.run(run.plan, run.workspace, attempt=31, baseline=f"file://{run.workspace.artifact}@{digest}")

    def rows(path: Path) -> list[dict[str, Any]]:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]

    mine, theirs = rows(run.workspace.samples(31)), rows(run.workspace.live_samples(31))
    assert [row["sample"] for row in theirs] == [0, 1]
    for row in theirs:
        beside = mine[row["sample"]]
        assert row["source"] == beside["source"]
        assert row["answer"] == beside["answer"][:3]
        assert row.get("cut", False) == (len(beside["answer"]) > 3)
    assert any(row.get("cut") for row in theirs)


def test_a_live_version_that_cannot_answer_keeps_its_figures_of_text(
    run: TrainedRun, live: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise BadArtifact("no row for a token")

    folder, digest = live
    asked = generation.answer
    named = iter([asked, refuse])
    monkeypatch.setattr(generation, "answer", lambda *args, **named_args: next(named)(*args, **named_args))
    result = evaluate.run(run.plan, run.workspace, attempt=32, baseline=f"file://{folder}@{digest}")
    assert result.evaluation is not None
    assert "bits_per_byte" in result.evaluation.baseline_metrics
    assert evaluate.BASELINE not in result.missing
    assert not run.workspace.live_samples(32).exists()


def _gone(folder: Path) -> None:
    shutil.rmtree(folder)


def _changed(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-8] + b"\1" * 8)


def _other(folder: Path) -> None:
    """Whole, and not the version that is live."""
    path = folder / "generation_config.json"
    path.write_text(path.read_text() + "\n")
    manifest = artifact.build(folder, run="x", plan_digest="sha256:" + "0" * 64, created_at="2026-01-01T00:00:00Z")
    (folder / artifact.MANIFEST).write_text(artifact.dump(manifest), encoding="utf-8")


@pytest.mark.parametrize("damage", [_gone, _changed, _other])
def test_a_live_version_that_cannot_be_measured_makes_its_gate_inconclusive(
    run: TrainedRun, live: tuple[Path, str], tmp_path: Path, damage: Any
) -> None:
    folder, digest = live
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    damage(copy)
    result = evaluate.run(run.plan, run.workspace, attempt=7, baseline=f"file://{copy}@{digest}")
    assert result.evaluation is not None
    assert result.evaluation.baseline_digest == digest
    assert result.evaluation.baseline_metrics == {}
    assert "the live version was not measured" in result.missing[evaluate.BASELINE]
    assert _judge(result, REGRESSION) is Verdict.INCONCLUSIVE
    # What is measured of the candidate alone is not touched by it.
    assert _judge(result, {"metric": "bits_per_byte", "max": 100}) is Verdict.PASS


def test_a_baseline_without_a_digest_is_refused(run: TrainedRun) -> None:
    with pytest.raises(BadConfig, match="URI@sha256"):
        evaluate.run(run.plan, run.workspace, attempt=8, baseline="file:///somewhere")


def test_a_damaged_artifact_is_never_loaded(run: TrainedRun, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    shutil.copytree(run.workspace.artifact, kept)
    try:
        _changed(run.workspace.artifact)
        with pytest.raises(BadArtifact, match=r"model\.safetensors: damaged") as raised:
            evaluate.run(run.plan, run.workspace, attempt=9)
        assert raised.value.exit_code == 2
        assert not run.workspace.report(9).exists()
    finally:
        shutil.rmtree(run.workspace.artifact)
        shutil.copytree(kept, run.workspace.artifact)


def test_held_out_data_that_was_changed_after_it_was_prepared_is_refused(run: TrainedRun) -> None:
    path = run.workspace.evaluation_documents
    text = path.read_text(encoding="utf-8")
    try:
        path.write_text(text.replace("山", "水", 1), encoding="utf-8")
        with pytest.raises(DamagedShard, match="was changed"):
            evaluate.run(run.plan, run.workspace, attempt=10)
    finally:
        path.write_text(text, encoding="utf-8")


def test_A_held_out_data_that_was_changed_together_with_its_report_is_refused(run: TrainedRun) -> None:
    """Who can write in the workspace can write both, and not the run's record."""
    path, prepared = run.workspace.evaluation_documents, run.workspace.prepared
    text, report = path.read_text(encoding="utf-8"), prepared.read_text(encoding="utf-8")
    recorded = json.loads(report)["evaluation"]["digest"]
    try:
        path.write_text(text.replace("山", "水", 1), encoding="utf-8")
        forged = json.loads(report)
        forged["evaluation"]["copies"][path.name] = artifact.hash_file(path).sha256
        forged["evaluation"]["digest"] = digest_of_copies(forged["evaluation"]["copies"])
        prepared.write_text(json.dumps(forged), encoding="utf-8")
        with pytest.raises(DamagedShard, match=f"and prepare reported {recorded}"):
            evaluate.run(run.plan, run.workspace, attempt=10, held_out=recorded)
    finally:
        path.write_text(text, encoding="utf-8")
        prepared.write_text(report, encoding="utf-8")


def test_A_another_artifact_than_the_record_has_is_never_loaded(run: TrainedRun) -> None:
    with pytest.raises(BadArtifact, match="was asked for"):
        evaluate.run(run.plan, run.workspace, attempt=10, artifact_digest="sha256:" + "0" * 64)


def test_a_superseded_attempt_writes_no_report(run: TrainedRun) -> None:
    fence = run.workspace.fence("evaluate")
    Fence(fence, 20).raise_()
    try:
        with pytest.raises(Superseded):
            evaluate.run(run.plan, run.workspace, attempt=11)
    finally:
        fence.unlink()
    assert not run.workspace.report(11).exists()


def test_a_model_of_nan_passes_no_gate(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    model = run.model()
    with torch.no_grad():
        model.model.norm.weight.fill_(torch.nan)
    run.end_stage(model)
    export.run(run.plan, run.workspace, attempt=1)
    result = evaluate.run(run.plan, run.workspace, attempt=1)
    assert "bits_per_byte" not in result.metrics
    assert "NaN or infinite" in result.missing["bits_per_byte"]
    assert result.evaluation is not None
    assert result.evaluation.scored_tokens == 0
    assert _report(run, 1)["band"] is None
    for bound in ({"max": 1e9}, {"min": 0.0}):
        assert _judge(result, {"metric": "bits_per_byte", **bound}) is Verdict.INCONCLUSIVE


def test_without_prompts_nothing_is_generated(tmp_path: Path) -> None:
    run = make_run(tmp_path, prompts=False).export()
    result = evaluate.run(run.plan, run.workspace, attempt=1)
    assert result.metrics.keys() == {"perplexity", "bits_per_byte", "word_perplexity", "byte_perplexity"}
    assert result.missing == {}


def test_the_live_version_keeps_its_own_end_of_turn(live: tuple[Path, str]) -> None:
    from slipway_trainer.model import exported_model

    loaded = exported_model.load(live[0], dtype=torch.float32)
    assert loaded.end_tokens == sorted(tokenizer.end_ids(tokenizer.from_folder(live[0], "live")))


def test_whoever_looks_at_the_port_sees_what_is_going_on(run: TrainedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str | None] = []
    kept = generation.answer

    def looking(*arguments: Any, **named: Any) -> Any:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/progress", timeout=5) as response:
            seen.append(json.loads(response.read())["message"])
        return kept(*arguments, **named)

    port = free_port()
    monkeypatch.setenv(variables.PROGRESS_PORT_VARIABLE, str(port))
    monkeypatch.setattr(generation, "answer", looking)
    evaluate.run(run.plan, run.workspace, attempt=12)
    assert seen == ["candidate: answering 3 prompts"]
