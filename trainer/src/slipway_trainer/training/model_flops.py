"""How many operations a model needs to learn some tokens, whatever computes them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn

from slipway_trainer.model import fused_experts

_CHOSEN = ("num_experts_per_tok", "num_experts_per_token", "experts_per_token", "moe_topk", "moe_k")
"""Where configurations say how many experts a token goes through."""
_ASIDE = {"original_module", "prompt_encoder"}
"""Weights that stand beside those that are used, and weights that no token goes through."""
TRAINED, FROZEN = 6, 4


@dataclass(frozen=True)
class ModelFlops:
    """Operations of a training step: forwards and backwards, without anything that is computed twice.

    A token costs two operations a weight forwards, two for the gradient of what came in, and two for that of a weight
    that is trained: 6 N, and 4 N where it is frozen (Kaplan et al. 2020, 2.1; Chowdhery et al. 2022, appendix B). N is
    the matrices that a token is multiplied with: no tables of embeddings, of experts those that it goes through, and
    the output layer for the learned tokens alone. Attention adds 12 · layers · heads · head size for each pair of
    tokens of which one looks at the other, in a causal document of n tokens n² / 2 of them: the source counts n², of
    which a causal model needs half.
    """

    of_token: float
    of_target: float
    of_square: float
    """For a document, by the square of its tokens. Layers that look at less than whole documents, and layers without
    attention, are left out: their figure is a little too low."""

    def of(self, tokens: float, targets: float, squares: float) -> float:
        """
        Args:
            tokens: of all documents, without padding.
            targets: of them, those that are learned.
            squares: sum of the squares of the documents' tokens.
        """
        return self.of_token * tokens + self.of_target * targets + self.of_square * squares


def of_model(model: Any, max_length: int) -> ModelFlops | None:
    """Returns what a model needs as it is trained, with its adapter; None where it has experts and does not say how
    many of them a token goes through.

    Args:
        max_length: tokens of a row: a window that is no shorter is none.
    """
    config = model.config.get_text_config()
    output = model.get_output_embeddings()
    of_output = {id(weight) for weight in output.parameters()}
    tables = {
        id(weight) for module in model.modules() if isinstance(module, nn.Embedding) for weight in module.parameters()
    }
    active = _active_share(config)
    of_token = of_target = 0.0
    for name, weight in _matrices(model):
        cost = (TRAINED if weight.requires_grad else FROZEN) * _size(weight)
        if id(weight) in of_output:
            of_target += cost
        elif id(weight) not in tables:
            if "experts" in name.split("."):
                if active is None:
                    return None
                cost *= active
            of_token += cost
    return ModelFlops(of_token, of_target, _of_square(config, max_length))


def _matrices(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    for name, weight in model.named_parameters():
        if len(_shape(weight)) > 1 and not _ASIDE & set(name.split(".")):
            yield name, weight


def _shape(weight: nn.Parameter) -> tuple[int, ...]:
    # Held in pieces, its own shape is that of nothing.
    return tuple(getattr(weight, "ds_shape", weight.shape))


def _size(weight: nn.Parameter) -> int:
    count = 1
    for size in _shape(weight):
        count *= size
    # Two weights of 4 bits lie in a byte.
    return 2 * count if not weight.is_floating_point() else count


def _active_share(config: Any) -> float | None:
    experts = fused_experts.count(config)
    chosen = next((found for name in _CHOSEN if isinstance(found := getattr(config, name, None), int)), None)
    return chosen / experts if experts and chosen else None


def _of_square(config: Any, max_length: int) -> float:
    """Returns 6 · layers · heads · head size, of the layers that look at whole documents."""
    layers, heads = getattr(config, "num_hidden_layers", 0), getattr(config, "num_attention_heads", 0)
    if not isinstance(heads, int) or not heads:
        return 0.0
    size = getattr(config, "head_dim", None) or getattr(config, "hidden_size", 0) // heads
    window = getattr(config, "sliding_window", None) if getattr(config, "use_sliding_window", True) else None
    whole = {"full_attention"} if window and window < max_length else {"full_attention", "sliding_attention"}
    kinds = getattr(config, "layer_types", None) or ["sliding_attention" if window else "full_attention"] * layers
    layers = sum(kind in whole for kind in kinds)
    return float(6 * layers * heads * size)
