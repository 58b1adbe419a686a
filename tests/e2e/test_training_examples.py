"""The examples of optimizers, schedules, noise, smoothing and preferences, from their files to a verdict, in fewer
steps."""

import json
import os
from pathlib import Path

import pytest
from tests.e2e.machine import Machine

EXAMPLES = Path(__file__).parents[2] / "examples"
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.mark.parametrize(
    ("name", "stages", "most"),
    [("optimizers", ("pretrain", "sft"), 6), ("regularized", ("sft",), 6), ("preferences", ("sft", "prefer"), 9)],
)
def test_an_example_learns_and_is_judged(tmp_path, name, stages, most):
    fewer = [word for stage in stages for word in ("--set", f"stages.{stage}.steps=30")]
    with Machine.at(tmp_path, dict(os.environ)).cleaned_up() as machine:
        machine.slipway("run", str(EXAMPLES / f"{name}.yaml"), *fewer, "--set", f"evaluation.gates[0].max={most}")
        assert machine.status(name)["evaluation"]["verdict"] == "Pass"
        for stage in stages:
            metrics = next((machine.folder / ".slipway").glob(f"runs/{name}/{name}-*/stages/{stage}/metrics.jsonl"))
            losses = [row["loss"] for row in map(json.loads, metrics.read_text().splitlines())]
            assert len(losses) == 30
            assert losses[-1] < losses[0] - 0.3
