"""The memory table beside the peaks of real trainings."""

import subprocess
import sys
from pathlib import Path

import pytest

CASES = ("FP32", "LoRA", "FP32, ZeRO 2, 2 processes")
ROOT = Path(__file__).parents[3]


@pytest.mark.slow
def test_the_table_is_within_15_percent_of_the_peak() -> None:
    command = [sys.executable, "-m", "bench.memory", "--only", ";".join(CASES)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr
    rows = [line.strip("| ").split(" | ") for line in done.stdout.splitlines() if line.startswith("| ")][1:]
    assert [row[0] for row in rows] == list(CASES)
    for name, _, estimated, measured, _ in rows:
        told, peak = (int(text.replace(",", "")) for text in (estimated, measured))
        assert peak > 200, f"{name} is too small to say anything"
        assert told == pytest.approx(peak, rel=0.15), name
