"""Which layers of a model are quantised, and which models can be: told from its layers alone, without its weights."""

from __future__ import annotations

from typing import Any, Final, Literal

from torch import nn

from slipway_trainer.model import fused_experts
from slipway_trainer.step.errors import BadConfig

Quantization = Literal["INT8", "INT4", "FP8"]
GROUP: Final = 32
"""Weights of a row that share a scale in INT4. Of a small model groups of 64 cost a fifth more of what groups of 32
cost, and save 4 MiB of 112."""
_MULTIPLE: Final[dict[Quantization, int]] = {"INT8": 16, "FP8": 16, "INT4": GROUP}
"""Of what both sides of a matrix must be a multiple: INT4 of its groups, the others of the tiles that vLLM's kernels
compute in. Source: `CPUWNA16LinearKernel.can_implement` and `cutlass_scaled_mm` of vLLM 0.32."""


def of_model(model: Any, wanted: Quantization) -> list[str]:
    """Returns the full names of the linear layers that are quantised: all but the output layer.

    Args:
        model: with or without weights, and without adapters.

    Raises BadConfig for a model whose layers do not have this format.
    """
    if experts := fused_experts.count(model.config.get_text_config()):
        raise BadConfig(
            f"export.quantization: {wanted}: the model has {experts} experts a layer, which are not quantised yet. "
            "Leave export.quantization out"
        )
    output = model.get_output_embeddings()
    found = {
        name: module for name, module in model.named_modules() if isinstance(module, nn.Linear) and module is not output
    }
    if not found:
        raise BadConfig(
            f"export.quantization: {wanted}: the model (a {model.config.model_type}) has no linear layers beside its "
            "output layer. Leave export.quantization out"
        )
    for name, layer in found.items():
        _check_shape(name, layer, wanted)
    return sorted(found)


def left_as_is(model: Any) -> list[str]:
    """Returns the full names of the linear layers that stay as they are."""
    output = model.get_output_embeddings()
    return [name for name, module in model.named_modules() if module is output and isinstance(module, nn.Linear)]


def _check_shape(name: str, layer: nn.Linear, wanted: Quantization) -> None:
    multiple = _MULTIPLE[wanted]
    for side, size in (("inputs", layer.in_features), ("outputs", layer.out_features)):
        if size % multiple:
            why = f"groups of {GROUP} weights" if wanted == "INT4" else f"tiles of {multiple}"
            raise BadConfig(
                f"export.quantization: {wanted}: the layer {name} has {size} {side}, and {wanted} has {why}, of which "
                f"that must be a multiple. Leave export.quantization out, or train a model of other sizes"
            )
