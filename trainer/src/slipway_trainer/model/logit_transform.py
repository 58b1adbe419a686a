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
_TOLERANCE = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 2e-2}


def unchanged(logits: torch.Tensor) -> torch.Tensor:
    return logits


def of_model(model: Any, attention: str) -> Transform | None:
    """Returns what the model does, elementwise: nothing, a scale (Cohere, Granite), a soft cap (Gemma 2). None where it
    does something that its configuration does not tell.

    No gradient is made, and no random number is drawn.

    Args:
        attention: the model's, as transformers calls it.
    """
    given: list[torch.Tensor] = []
    handle = model.get_output_embeddings().register_forward_hook(lambda _layer, _given, found: given.append(found))
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
    candidates = _candidates(model.config.get_text_config())
    return next((found for found in candidates if _is(found, given[0], returned)), None)


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


def _is(transform: Transform, given: torch.Tensor, returned: torch.Tensor) -> bool:
    tolerance = _TOLERANCE.get(given.dtype, 0.0)
    expected, returned = transform(given).float(), returned.float()
    room = tolerance * float(returned.abs().max())
    return bool(torch.isfinite(returned).all()) and bool(torch.allclose(expected, returned, atol=room, rtol=tolerance))
