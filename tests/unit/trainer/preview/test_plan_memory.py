"""The memory of a plan, from the plan alone."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from slipway_core import plan as plans
from slipway_core.plan import Plan
from slipway_core.protocol.preview import PlanMemory
from slipway_core.resources.training_run import TrainingRun
from slipway_trainer.preview import plan_memory

TRAINED = {"train": {"vocabSize": 4096}}
BASE = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 320,
    "max_position_embeddings": 2048,
}


def plan(scratch: dict[str, Any], **stage: Any) -> Plan:
    return plan_of({"scratch": scratch}, **stage)


def plan_of(model: dict[str, Any], **stage: Any) -> Plan:
    stages = [{"name": "s", "data": {"train": [{"uri": "file:///data.jsonl"}]}, **stage}]
    document = {"metadata": {"name": "mine"}, "spec": {"model": model, "stages": stages}}
    return plans.resolve(TrainingRun.model_validate(document, by_alias=True, by_name=False), uid="uid")


def told(asked: Plan, device: str = "H100", processes: int | None = None) -> PlanMemory:
    return plan_memory.of_plan(asked, device, processes, say=lambda _: None)


@pytest.mark.parametrize("new", [True, False])
def test_no_data_and_no_torch_are_needed_for_a_model_whose_plan_or_configuration_says_its_size(
    tmp_path: Path, new: bool
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(BASE), encoding="utf-8")
    asked = plan_of({"from": f"file://{tmp_path}"}, adapter={"method": "LoRA"})
    asked = plan({"tokenizer": TRAINED}) if new else asked
    (tmp_path / "plan.json").write_text(asked.to_json(), encoding="utf-8")
    code = (
        "import sys; from pathlib import Path; from slipway_trainer.step import startup; startup.prepare_process();"
        "from slipway_core import plan as plans; plan = Path('plan.json');"
        "from slipway_trainer.preview.main import write_memory;"
        "code = write_memory(plan, Path('told.json'), device='H100', processes=2);"
        "from slipway_trainer.prepare import preflight; made = plans.load(plan.read_text());"
        "preflight.check(made, Path() if made.model.from_ else None, print);"
        "assert 'torch' not in sys.modules; sys.exit(code)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    found = json.loads((tmp_path / "told.json").read_text(encoding="utf-8"))
    assert found["stages"][0]["memory"]["processes"] == 2


def test_the_vocabulary_is_the_one_that_the_tokenizer_may_have() -> None:
    small, large = (told(plan({"tokenizer": {"train": {"vocabSize": n}}})).stages[0] for n in (4096, 8192))
    assert large.parameters - small.parameters == 4096 * 256


def test_an_adapter_trains_little_of_a_model_that_has_its_vocabulary() -> None:
    asked = plan({"tokenizer": TRAINED}, adapter={"method": "LoRA"})
    whole, adapted = told(plan({"tokenizer": TRAINED})).stages[0], told(asked).stages[0]
    assert adapted.parameters - adapted.trained == whole.parameters
    parts = {part.name: part.device for part in adapted.memory.parts}
    assert parts["weights"] > 10 * parts["optimizer"] / 4


def test_what_cannot_fit_is_said_with_its_numbers() -> None:
    large = {"hiddenSize": 8192, "layers": 80, "heads": 64, "tokenizer": TRAINED}
    refused = told(plan(large)).stages[0].memory.refused
    assert refused is not None
    assert "and has 79.1 GiB" in refused
    assert told(plan(large), processes=64).stages[0].memory.refused is None
