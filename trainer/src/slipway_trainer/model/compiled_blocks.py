"""The blocks of a model compiled, each in its place: what they compute becomes fewer passes over the memory.

Blocks are alike, so one is compiled and all of them use what came of it (torch calls that regional compilation). Their
names stay, the embedding and the output layer are left alone, and so is attention: how many documents a row has changes
with every batch, and each would be compiled anew.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from slipway_trainer.model import document_attention, prompt_adapters
from slipway_trainer.step.errors import StepFailure, first_line

BACKEND = "inductor"


def of_model(model: Any) -> nn.ModuleList | None:
    """Returns the blocks of a model, with its adapter if it has one; None where it has no list of them."""
    count = getattr(model.config.get_text_config(), "num_hidden_layers", 0)
    lists = (module for module in model.modules() if isinstance(module, nn.ModuleList) and len(module) == count)
    return next((found for found in lists if len({type(block) for block in found}) == 1), None)


def compile_each(model: Any, backend: str | Callable[..., Any] = BACKEND) -> None:
    """Has every block compiled when it is first called. A batch of another width makes it once more, for all widths."""
    document_attention.register_uncompiled()
    for block in of_model(model) or ():
        block.compile(backend=backend)


def unfit(model: Any) -> str | None:
    """Returns why the blocks of a model cannot be compiled; None where they can."""
    if of_model(model) is None:
        return f"{model.config.model_type} has no list of blocks that are alike"
    if prompt_adapters.virtual_tokens(model):
        return "virtual tokens stand in front of its blocks"
    return None


def untried(model: Any) -> str | None:
    """Returns why nobody knows what compiling would do for the blocks of a model; None where it is known."""
    if model.config._attn_implementation not in document_attention.NAMES:
        return f"it was tried with llama, mistral, qwen2 and qwen3, and not with {model.config.model_type}"
    if any(parameter.dtype == torch.uint8 for parameter in model.parameters()):
        return "it was not tried with weights of 4 bits"
    return None


def missing(device: torch.device) -> str | None:
    """Returns what this machine lacks to compile for a device; None where it has all of it."""
    if not Path(sysconfig.get_paths()["include"], "Python.h").is_file():
        return "Python.h (python3-dev)"
    if device.type == "cpu":
        return None if _command("CXX", "g++") else "a C++ compiler (g++)"
    if importlib.util.find_spec("triton") is None:
        return "triton"
    return None if _command("CC", "gcc", "clang") else "a C compiler (gcc), which triton starts its kernels with"


def failure(error: Exception) -> StepFailure | None:
    """Returns what a compiler said that could not compile a block; None of another error."""
    if not any(kind.__name__ == "TorchDynamoException" for kind in type(error).__mro__):
        return None
    cause = getattr(error, "inner_exception", error)
    return StepFailure(f"the blocks could not be compiled: {first_line(cause)}. Set stages[].compile: Disabled")


def _command(variable: str, *names: str) -> str | None:
    named = os.environ.get(variable)
    return next(filter(None, map(shutil.which, [named] if named else names)), None)
