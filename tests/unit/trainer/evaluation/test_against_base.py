"""A gate against the base compares with the model that the run started from, live version or none."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from tests.unit.trainer.own_model import own_model
from tests.unit.trainer.tiny_model import make_model, make_tokenizer
from tests.unit.trainer.trained_run import TrainedRun

from slipway_core.lifecycle import verdict
from slipway_core.protocol import artifact, step_result
from slipway_core.resources.status import Verdict
from slipway_trainer import export
from slipway_trainer.evaluation import evaluate
from slipway_trainer.model import lineage

MARGIN = {"metric": "bits_per_byte", "maxRegression": 0.5, "against": "Base"}
DOCUMENTS = [f"{number} sat on a wall and had a great fall, as {number * 7} others did." for number in range(12)]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base") / "model"
    words = make_tokenizer()
    make_model(words, seed=5).save_pretrained(str(folder))
    words.save_pretrained(str(folder))
    return folder


@pytest.fixture(scope="module")
def run(base: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainedRun:
    """A run that made another model of the base."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "train.jsonl").write_text(json.dumps({"text": "All the king's horses."}) + "\n", encoding="utf-8")
    stages = [{"name": "pretrain", "maxLength": 64, "data": {"train": [{"uri": "file://train.jsonl"}]}}]
    gates = [{"metric": "bits_per_byte", "max": 100}, MARGIN]
    made = own_model(folder, base, held_out=DOCUMENTS, stages=stages, evaluation={"gates": gates})
    made.end_stage(make_model(make_tokenizer(), seed=6))
    export.run(made.plan, made.workspace, attempt=1)
    return made


def _judged(run: TrainedRun, result: step_result.StepResult) -> verdict.Judgement:
    evaluation = result.evaluation
    assert evaluation is not None
    measured = verdict.Measured(
        metrics=result.metrics,
        scored_tokens=evaluation.scored_tokens,
        missing=result.missing,
        baseline=evaluation.baseline_metrics if evaluation.baseline_digest else None,
        base=evaluation.base_metrics,
        estimates=evaluation.estimates,
    )
    return verdict.judge(run.plan.evaluation.gates, measured)


def test_the_base_is_measured_on_the_same_documents_without_a_live_version(run: TrainedRun, base: Path) -> None:
    result = evaluate.run(run.plan, run.workspace, attempt=1)
    evaluation = result.evaluation
    assert evaluation is not None
    assert (evaluation.baseline_digest, evaluation.base_digest) == (None, lineage.digest_of_model(base))
    assert evaluation.base_metrics.keys() == {"bits_per_byte"}
    worse = evaluation.estimates[1]
    assert worse is not None
    assert worse.value == pytest.approx(result.metrics["bits_per_byte"] - evaluation.base_metrics["bits_per_byte"])
    assert worse.clusters == len(DOCUMENTS)
    report: dict[str, Any] = json.loads(run.workspace.report(1).read_text(encoding="utf-8"))
    assert report["baseline"] is None
    assert report["base"]["digest"] == evaluation.base_digest
    assert report["base"]["metrics"]["bits_per_byte"] == evaluation.base_metrics["bits_per_byte"]
    assert report["gates"][1]["threshold"] == "<= base + 0.5"
    assert _judged(run, result).verdict is Verdict.PASS


def test_a_live_version_is_no_base_and_is_not_measured_for_one(run: TrainedRun, tmp_path: Path) -> None:
    """The live version is the very model that the candidate is: against it there would be no regression at all."""
    live = tmp_path / "live"
    shutil.copytree(run.workspace.artifact, live)
    digest = artifact.read(live).digest
    alone = evaluate.run(run.plan, run.workspace, attempt=2).evaluation
    beside = evaluate.run(run.plan, run.workspace, attempt=3, baseline=f"file://{live}@{digest}").evaluation
    assert alone is not None
    assert beside is not None
    assert beside.estimates == alone.estimates
    assert beside.base_digest == alone.base_digest != digest


def test_A_a_base_that_is_another_one_by_now_is_inconclusive(run: TrainedRun, base: Path) -> None:
    kept = (base / "config.json").read_bytes()
    try:
        (base / "config.json").write_bytes(kept + b"\n")
        judged = _judged(run, evaluate.run(run.plan, run.workspace, attempt=4))
    finally:
        (base / "config.json").write_bytes(kept)
    assert judged.verdict is Verdict.INCONCLUSIVE
    assert "is not what the model was trained from" in judged.reason
