"""Layers that are trained whole beside an adapter, such as the embedding and the output."""

from __future__ import annotations

from typing import Any

from torch import nn

from slipway_core.resources.stage import Stage
from slipway_trainer.model.layer_names import end, is_called
from slipway_trainer.step.errors import BadConfig


def resolve(model: nn.Module, stage: Stage) -> list[str]:
    """Returns the full names of the layers that `adapter.modulesToSave` names, sorted; of a tied pair both, where
    either is named. peft takes an end of a name for more than is meant: `norm` for `input_layernorm` too.

    Raises BadConfig that names the field when a name is no layer of the model.
    """
    assert stage.adapter is not None
    layers, found = _layers(model), set[str]()
    for wanted in stage.adapter.modules_to_save or ():
        called = {layer for layer in layers if is_called(layer, wanted)}
        if not called:
            part = any(is_called(module, wanted) for module, _ in model.named_modules())
            why = (
                f"{wanted} is a part without weights of its own" if part else f"nothing in the model is called {wanted}"
            )
            raise BadConfig(
                f"stages[{stage.name}].adapter.modulesToSave: {why}. Its layers are called {', '.join(_ends(model))}"
            )
        found |= called
    pair = {name for name, module in model.named_modules() if module in _vocabulary(model)}
    return sorted(found | pair if tied(model) and found & pair else found)


def tied(model: Any) -> bool:
    """Returns whether the embedding is the output layer too."""
    layers = _vocabulary(model)
    return len(layers) == 2 and layers[0].weight is layers[1].weight


def _layers(model: nn.Module) -> list[str]:
    return [name for name, module in model.named_modules() if next(module.parameters(recurse=False), None) is not None]


def _ends(model: nn.Module) -> list[str]:
    """Returns what layers are called, those of the vocabulary first."""
    vocabulary = [end(name) for name, module in model.named_modules() if module in _vocabulary(model)]
    return [*vocabulary, *sorted({end(name) for name in _layers(model)} - set(vocabulary))]


def _vocabulary(model: Any) -> list[Any]:
    return [layer for layer in (model.get_input_embeddings(), model.get_output_embeddings()) if layer is not None]
