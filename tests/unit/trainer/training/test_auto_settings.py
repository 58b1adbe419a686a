"""Whether the blocks of a model are compiled, by what the plan says, the device, the model and what the machine has."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import FalconConfig, FalconForCausalLM, LlamaConfig, LlamaForCausalLM

from slipway_trainer.model import compiled_blocks, document_attention
from slipway_trainer.step.errors import BadConfig
from slipway_trainer.training import auto_settings

SHAPE = {"num_attention_heads": 2, "num_hidden_layers": 2, "hidden_size": 32, "vocab_size": 96}


@dataclass(frozen=True)
class OnDevice:
    """Ranks of one process on a device that need not be there."""

    device: torch.device
    world: int = 1


def model(family: str) -> Any:
    if family == "falcon":
        return FalconForCausalLM(FalconConfig(**SHAPE))
    made = LlamaForCausalLM(LlamaConfig(**SHAPE))
    document_attention.register()
    made.set_attn_implementation(document_attention.VARLEN)
    return made


@pytest.mark.parametrize(
    ("wanted", "device", "family", "zero", "missing", "compiled", "why"),
    [
        ("Auto", "cuda", "llama", 1, None, True, "a GPU with a compiler beside it"),
        ("Auto", "cpu", "llama", 0, None, False, "on a CPU it gains too little for the time that it takes"),
        ("Auto", "cuda", "llama", 3, None, False, "ZeRO-3 fetches weights within each block"),
        ("Auto", "cuda", "llama", 1, "gcc", False, "this machine has not gcc"),
        ("Auto", "cuda", "falcon", 1, None, False, "and not with falcon"),
        ("Enabled", "cuda", "falcon", 1, None, True, "set in the plan"),
        ("Enabled", "cpu", "llama", 0, None, True, "set in the plan"),
        ("Enabled", "cuda", "llama", 3, None, False, "ZeRO-3 fetches weights within each block"),
        ("Disabled", "cuda", "llama", 1, None, False, "set in the plan"),
    ],
)
def test_blocks_are_compiled_where_that_is_asked_for_or_pays(
    wanted: str,
    device: str,
    family: str,
    zero: int,
    missing: str | None,
    compiled: bool,
    why: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(compiled_blocks, "missing", lambda _: missing)
    attempt: Any = SimpleNamespace(
        stage=SimpleNamespace(name="sft", compile=wanted), ranks=OnDevice(torch.device(device))
    )
    found, reason = auto_settings._compiled(attempt, model(family), zero)
    assert found is compiled
    assert reason.endswith(why)


def test_what_is_asked_for_and_cannot_be_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled_blocks, "missing", lambda _: "a C++ compiler (g++)")
    attempt: Any = SimpleNamespace(
        stage=SimpleNamespace(name="sft", compile="Enabled"), ranks=OnDevice(torch.device("cpu"))
    )
    with pytest.raises(BadConfig, match=r"^stages\[sft\]\.compile: Enabled, but this machine has not a C\+\+ compiler"):
        auto_settings._compiled(attempt, model("llama"), 0)
