"""A run that is held for want of rows is followed by one without stages, with more of them: the model goes live, and
nobody trains it again."""

import json
import os

import pytest
from tests.e2e.machine import Machine
from tests.unit.examples.test_examples import ROOT

from slipway_core.protocol import artifact

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]
EXAMPLE = str(ROOT / "examples" / "own-model.yaml")
LAX = ("--set", "evaluation.gates=[{metric: bits_per_byte, max: 8, minTokens: 1000}, {metric: empty_rate, max: 1}]")


def test_a_held_model_is_judged_on_more_rows_and_goes_live(tmp_path):
    with Machine.at(tmp_path, dict(os.environ)).cleaned_up() as machine:
        rows = [{"text": f"{number} little words that no poem has"} for number in range(3)]
        (tmp_path / "few.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        few = ("--set", "evaluation.data[0].uri=file://few.jsonl", "--set", "evaluation.gates[0].minTokens=1")
        fast = [word for part in ("pretrain", "sft") for word in ("--set", f"stages.{part}.steps=5")]
        machine.slipway("run", "small.yaml", *few, *fast, "--set", "evaluation.prompts=[]", code=3, timeout=700)
        held = machine.status("small")
        assert held["phase"] == "Held"
        assert "8 are the fewest" in held["evaluation"]["reason"]

        small = ("--set", "model.from=run://small", "--set", f"serving.template.port={machine.port}", *LAX)
        engine = ("--set", "serving.template.engine.maxModelLength=256", "--set", "evaluation.maxNewTokens=16")
        machine.slipway("run", EXAMPLE, *small, *engine, timeout=700)
        status = machine.status("own-model")
        assert status["phase"] == "Serving"
        assert [(s["name"], s["state"]) for s in status["stages"]] == [
            (name, "Succeeded") for name in ("prepare", "export", "evaluate")
        ]
        assert status["evaluation"]["verdict"] == "Pass"
        assert status["artifact"]["digest"] == held["artifact"]["digest"], "it is the very model that was held"
        (folder,) = (tmp_path / ".slipway" / "runs" / "own-model").glob("own-model-*/artifact")
        was = artifact.verify(folder).lineage["base"]["was"]
        assert (was["run"], was["digest"]) == ("small", held["artifact"]["digest"])
        assert machine.ask("背诵李白的《夜思》")["usage"]["completion_tokens"] >= 1
        shown = machine.slipway("status", "own-model")
        assert "evaluate" in shown
        assert "has no stages" in machine.slipway("plot", "own-model", "-o", "loss.png", code=2)
        memory = machine.slipway("plan", EXAMPLE, *small, "--memory")
        assert "no stage trains" in memory
