"""What a model does to the logits of its output layer before it returns them: found out by running it once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from slipway_trainer.batches.collate import Batch
from slipway_trainer.model import pieces, vocabulary
from slipway_trainer.model.model_inputs import model_inputs

Transform = Callable[[torch.Tensor], torch.Tensor]

TOKENS = 8
_WIDEST = 64.0
"""Logits that the model is given run from minus to plus this: its own may be too small to show a cap of 30."""
_TOLERANCE = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 2e-2}


def unchanged(logits: torch.Tensor) -> torch.Tensor:
    return logits


def of_model(model: Any, attention: str) -> Transform | None:
    """Returns what the model does, elementwise: nothing, a scale (Cohere, Granite), a soft cap (Gemma 2). None where it
    does something that its configuration does not tell.

    Its output layer gives logits of ours meanwhile; of what its configuration tells, what is nearest to what it returns
    of them is taken. Half precision alone would take a cap for nothing, and a scale near one too.

    No gradient is made, and no random number is drawn.

    Args:
        attention: the model's, as transformers calls it.
    """
    given: list[torch.Tensor] = []

    def wide(_layer: Any, _given: Any, found: torch.Tensor) -> torch.Tensor:
        spread = torch.linspace(-_WIDEST, _WIDEST, found.numel(), device=found.device)
        given.append(spread.to(found.dtype).view_as(found))
        # A copy: a model may change it in its place.
        return given[-1].clone()

    handle = model.get_output_embeddings().register_forward_hook(wide)
    training = model.training
    model.eval()
    try:
        with torch.no_grad(), pieces.whole_while_called(model):
            rows = vocabulary.size(model)
            batch = Batch.of_documents([torch.arange(TOKENS, device=model.device) % rows])
            returned: torch.Tensor = model(**model_inputs(batch, attention=attention, packed=False)).logits
    finally:
        handle.remove()
        model.train(training)
    if len(given) != 1 or given[0].shape != returned.shape:
        return None
    distances = {found: _distance(found, given[0], returned) for found in _candidates(model.config.get_text_config())}
    nearest = min(distances, key=distances.__getitem__)
    return nearest if distances[nearest] <= _TOLERANCE.get(given[0].dtype, 0.0) else None


def _candidates(config: Any) -> list[Transform]:
    found: list[Transform] = [unchanged]
    for name in ("logit_scale", "output_multiplier"):
        if isinstance(scale := getattr(config, name, None), int | float):
            found.append(lambda logits, scale=scale: logits * scale)
    if scale := getattr(config, "logits_scaling", None):
        found.append(lambda logits, scale=scale: logits / scale)
    for name in ("final_logit_softcapping", "logits_soft_cap"):
        if cap := getattr(config, name, None):
            found.append(lambda logits, cap=cap: torch.tanh(logits / cap) * cap)
    return found


def _distance(transform: Transform, given: torch.Tensor, returned: torch.Tensor) -> float:
    """Returns the largest difference from what was returned, as a share of the largest logit there; infinity where that
    is no number."""
    returned = returned.float()
    distance = float((transform(given).float() - returned).abs().max() / returned.abs().max())
    return distance if distance == distance else float("inf")
