"""The check for a GPU goes through all of its parts without one, with tiny models."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from bench.gpu import correctness
from bench.gpu.sizes import TINY
from bench.gpu.throughput import CONTENDERS

ROOT = Path(__file__).parents[3]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


@pytest.mark.skipif("SLIPWAY_GPU_CHECK" not in os.environ, reason="takes two minutes of two cores; make chaos runs it")
def test_all_parts_run_on_a_cpu(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bench.gpu.check", "--device", "cpu", "--tiny", "--minutes", "15"]
    done = subprocess.run(
        [*command, "--out", str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=1100, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr[-4000:]
    assert done.stdout.strip() == (tmp_path / "check.md").read_text().strip()
    rows = json.loads((tmp_path / "check.json").read_text())["rows"]
    checks = [row["name"] for row in rows if row["kind"] == "check"]
    assert len(checks) == 10
    assert all(row["passed"] for row in rows if row["kind"] == "check")
    measured = {(row["rows"], row["trains"], row["contender"]) for row in rows if row["kind"] == "speed"}
    assert measured == {
        (width, trains, contender)
        for width in TINY.widths
        for trains in ("all weights", "LoRA")
        for contender in CONTENDERS
    }
    (stall,) = (row for row in rows if row["kind"] == "stall")
    assert 0 < stall["stall"] < stall["whole"]
    steps = [row["name"] for row in rows if row["kind"] == "step"]
    assert steps == ["prepare", "pretrain", "sft", "export", "evaluate", "verdict"]
    left_out = [row["what"] for row in rows if row["kind"] == "left out"]
    assert left_out == [f"{name}: needs a GPU" for name in correctness.NEED_GPU]


def test_without_a_gpu_it_says_so_at_once(tmp_path: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    command = [sys.executable, "-m", "bench.gpu.check", "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 1
    assert "torch sees no GPU here" in done.stderr
