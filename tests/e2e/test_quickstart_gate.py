"""A: the quickstart's gates stop a model that has hardly learned anything."""

from pathlib import Path

import pytest
from tests.e2e.machine import Machine

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
QUICKSTART = Path(__file__).parents[2] / "examples" / "quickstart.yaml"


def test_A_a_model_after_one_step_of_each_stage_is_rejected(tmp_path):
    text = QUICKSTART.read_text()
    for epochs in ("epochs: 5", "epochs: 8"):
        assert epochs in text
        text = text.replace(epochs, "steps: 1")
    machine = Machine.at(tmp_path)
    (tmp_path / "one-step.yaml").write_text(text)
    machine.slipway("run", "one-step.yaml", "--no-serve", code=3)
    status = machine.status("quickstart")
    verdicts = {row["name"]: row for row in status["evaluation"]["metrics"]}
    assert status["phase"] == "Rejected"
    assert verdicts["bits_per_byte"]["verdict"] == "Fail"
    assert verdicts["bits_per_byte"]["value"] > 3.5
    assert verdicts["recall_count"]["verdict"] == "Fail"
