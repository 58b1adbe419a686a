"""A quantised artifact is judged as what it is, and a real server answers from the same files."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest
from tests.integration.serving.running_server import RunningServer
from tests.unit.trainer.tiny_model import teach
from tests.unit.trainer.trained_run import PROMPTS, TRAINING, make_run

from slipway_core.protocol import artifact
from slipway_trainer import export
from slipway_trainer.evaluation import evaluate
from slipway_trainer.model.exported_model import ExportedModel
from slipway_trainer.tokens import tokenizer

QUESTION, ANSWER = PROMPTS[0]["prompt"], TRAINING[0]
DECIDED = {
    "precision": "BF16", "zero_stage": 0, "micro_batch": 1, "gradient_checkpointing": False, "attention": "sdpa",
    "target_modules": None, "world_size": 1, "sequences": 1, "total_rows": 1, "total_steps": 1, "data_digest": "",
}  # fmt: skip


@pytest.mark.slow
def test_what_a_quantised_model_was_judged_by_is_what_the_server_answers(tmp_path: Path) -> None:
    run = make_run(tmp_path, gates=[{"metric": "recall_count", "min": 1, "confidence": 0.5}])
    words = tokenizer.load(run.workspace)
    model = run.model()
    teach(ExportedModel(model, words, tokenizer.end_ids(words)), QUESTION, ANSWER)
    run.end_stage(model, **DECIDED)
    # What vLLM computes with on any processor.
    plan = run.plan.model_copy(update={"export": run.plan.export.model_copy(update={"quantization": "FP8"})})
    made = export.run(plan, run.workspace, attempt=1).artifact
    assert made is not None
    result = evaluate.run(plan, run.workspace, attempt=1, artifact_digest=made.digest)
    assert result.evaluation is not None
    assert result.evaluation.artifact_digest == made.digest
    assert result.metrics["recall_count"] >= 1
    assert artifact.read(run.workspace.artifact).lineage["quantization"]["method"] == "FP8"

    report = json.loads(run.workspace.report(1).read_text(encoding="utf-8"))
    assert report["candidate"]["engine"] == "vLLM"
    assert "quantised" in report["candidate"]["engine_why"]
    samples = (run.workspace.evaluation(1) / "samples.jsonl").read_text(encoding="utf-8").splitlines()
    judged = next(row for row in map(json.loads, samples) if row["conversations"][-1]["content"] == QUESTION)
    assert judged["answer"] == ANSWER
    record = result.evaluation.parity_digest
    assert record is not None, report["parity"]
    proof = ("--parity", str(run.workspace.parity(1)), "--parity-digest", record)
    server = RunningServer(tmp_path, run.workspace.artifact, "--digest", made.digest, *proof)
    try:
        server.wait_until_ready()
        assert httpx.get(f"{server.url}/promptz", timeout=120).json()["parity"]["pass"] is True
        asked = {
            "model": "tiny",
            "messages": [{"role": "user", "content": QUESTION}],
            "temperature": 0,
            "max_tokens": 12,
        }
        answer = httpx.post(f"{server.url}/v1/chat/completions", json=asked, timeout=120)
        assert answer.status_code == 200, answer.text
        assert answer.json()["choices"][0]["message"]["content"] == judged["answer"]
    finally:
        server.stop()
