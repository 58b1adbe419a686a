"""Which layers of a model an adapter goes on: told by the model itself, with its weights or without them.

Prepare asks a model without weights and the stage the one that it trains, so what the stage would refuse is refused
before anything is trained.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from slipway_core.resources.stage import Stage
from slipway_trainer.model import fused_experts, whole_layers
from slipway_trainer.model.layer_names import end, is_called
from slipway_trainer.model.pieces import gathered
from slipway_trainer.step.errors import BadConfig

_STATE_SPACE = (
    "mamba",
    "mamba2",
    "falcon_mamba",
    "falcon_h1",
    "nemotron_h",
    "jamba",
    "bamba",
    "granitemoehybrid",
    "zamba2",
)
_READ_PAST = ("conv1d", "x_proj", "dt_proj", "out_proj")
"""Layers of these architectures whose weights are multiplied with elsewhere than in the layer, by a kernel or by the
block around it: an adapter on one would learn nothing, or something that its merged form does not compute."""


def resolve(model: nn.Module, stage: Stage) -> list[str]:
    """Returns what gets the adapter of a stage that has one, sorted: ends of names, as peft compares them, or whole
    names where an end would take more than is meant. Nothing does where it stands before the model.

    Raises BadConfig that names the field when a name is none of the model's, or one that no adapter can go on.
    """
    assert stage.adapter is not None
    if stage.adapter.before_text:
        return []
    whole = set(whole_layers.resolve(model, stage))
    layers = {name: layer for name, layer in linear_layers(model).items() if name not in whole}
    experts = [] if without_experts(stage) else fused_experts.of_model(model, without=whole)
    field = f"stages[{stage.name}].adapter.targetModules"
    if stage.adapter.target_modules == "Auto":
        if layers or experts:
            return sorted([*_shortened(model, layers), *{fused_experts.short(name) for name in experts}])
        raise BadConfig(f"{field}: Auto finds no linear layer in {_architecture(model)}. Train it without an adapter")
    wanted = sorted(set(stage.adapter.target_modules.split(",")))
    for name in wanted:
        if any(is_called(expert, name) for expert in experts):
            continue
        if reason := _refused(model, stage, layers, whole, name):
            raise BadConfig(f"{field}: {reason}. {_choice(layers, experts)}")
    return wanted


def left_out(model: nn.Module, stage: Stage) -> str | None:
    """Returns what stays as it is although the stage asks for an adapter on it; None when nothing does.

    Args:
        model: with its adapter or before.
    """
    if stage.adapter is None or stage.adapter.before_text:
        return None
    # With the adapter on it, what is trained whole is not looked at any more.
    whole = set() if hasattr(model, "peft_config") else set(whole_layers.resolve(model, stage))
    experts, why = fused_experts.of_model(model, without=whole), without_experts(stage)
    if stage.adapter.target_modules == "Auto":
        stay = [name for name in fused_experts.tensors(model) if name.rpartition(".")[0] not in whole]
        stay = [name for name in stay if why or name not in experts]
    else:
        wanted = stage.adapter.target_modules.split(",")
        stay = [name for name in experts if why and any(is_called(name, one) for one in wanted)]
    if not stay:
        return None
    ends, since = ", ".join(sorted({end(name) for name in stay})), f", since {why}" if why else ""
    return f"{ends} hold several matrices in one tensor and get no adapter{since}: they stay as they are"


def linear_layers(model: nn.Module) -> dict[str, nn.Module]:
    """Returns the layers that an adapter can go on, by their full name: the linear ones but the output."""
    output = _output(model)
    return {
        name: module
        for name, module in model.named_modules()
        if module is not output and _is_linear(module) and not _read_past(model, name)
    }


def without_experts(stage: Stage) -> str | None:
    """Returns why the experts of a mixture get no adapter in this stage; None where they can."""
    adapter = stage.adapter
    assert adapter is not None
    if adapter.dropout > 0:
        return f"dropout ({adapter.dropout}) cannot stand before them"
    if adapter.method == "DoRA":
        return "DoRA cannot go on them (LoRA can)"
    if stage.memory.divides_weights:
        return "under ZeRO-3 their adapter would be read in pieces"
    return None


def _refused(model: nn.Module, stage: Stage, layers: dict[str, nn.Module], whole: set[str], wanted: str) -> str | None:
    """Returns why no adapter can go on what is called so; None when it can."""
    for name, module in model.named_modules():
        if not is_called(name, wanted) or name in layers:
            continue
        if name in whole:
            return f"{wanted} is trained whole (adapter.modulesToSave), so it takes no adapter: name it in one of both"
        if module is _output(model):
            return f"{wanted} is the output layer, and no adapter goes on that"
        if _read_past(model, name):
            return f"{wanted} of {_architecture(model)} is read past an adapter, so none can go on it"
        return f"{wanted} is a {type(module).__name__}, and an adapter goes on linear layers"
    if any(is_called(name, wanted) for name in layers):
        return None
    if any(is_called(name, wanted) for name in fused_experts.of_model(model, without=whole)):
        return f"{wanted} holds the weights of all experts in one, and {without_experts(stage)}"
    if any(is_called(name, wanted) for name in fused_experts.tensors(model)):
        return f"{wanted} holds several matrices in one tensor, and no adapter goes on that"
    return f"nothing in the model is called {wanted}"


def _choice(layers: dict[str, nn.Module], experts: list[str]) -> str:
    there = ", ".join(sorted({end(name) for name in layers} | {fused_experts.short(name) for name in experts}))
    return f"Its linear layers are called {there}; Auto takes all of them" if there else "It has no linear layer"


def _shortened(model: nn.Module, layers: dict[str, nn.Module]) -> list[str]:
    """Returns ends of names; the whole ones where something else in the model ends so."""
    ends = {end(name) for name in layers}
    shared = {end(name) for name, _ in model.named_modules() if end(name) in ends and name not in layers}
    return sorted((ends - shared) | {name for name in layers if end(name) in shared})


def _is_linear(module: nn.Module) -> bool:
    if not isinstance(module, nn.Linear | Conv1D):
        return False
    if type(module).forward in (nn.Linear.forward, Conv1D.forward):
        return True
    # Falcon's own is a linear layer like any other; the router of Llama 4 returns a pair.
    weight: Any = module.weight
    with torch.no_grad(), gathered([weight]):
        found = module(torch.zeros(1, weight.shape[1], dtype=weight.dtype, device=weight.device))
    return isinstance(found, torch.Tensor) and found.shape == (1, weight.shape[0])


def _read_past(model: nn.Module, name: str) -> bool:
    return _architecture(model) in _STATE_SPACE and end(name) in _READ_PAST


def _output(model: nn.Module) -> nn.Module | None:
    return getattr(model, "get_output_embeddings", lambda: None)()


def _architecture(model: nn.Module) -> str:
    return str(getattr(getattr(model, "config", None), "model_type", type(model).__name__))
