"""Whether a model keeps the documents of a packed row apart: asked of the model itself, with the stage's own tokens.

Positions that restart tell most architectures where a document begins. Some do not look at them (Falcon, OPT, BLOOM,
MPT), and some carry a state from token to token (Mamba, LFM2, Qwen3-Next): there a document would learn from what
happens to stand before it, and the loss would depend on the packing. No list of names is kept, because it would be
true of one version of transformers and of one attention only.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from slipway_trainer.batches.collate import Batch
from slipway_trainer.model import pieces, prompt_adapters, vocabulary
from slipway_trainer.model.model_inputs import BY_ROWS, model_inputs
from slipway_trainer.step.errors import BadModel, first_line

TOKENS = 32
"""Of each of the two documents. What leaks reaches the first tokens of a document most."""
_FLOOR = {torch.float32: 1e-5}
_HALF_FLOOR = 1e-3
"""Movements below it are rounding. Of 40 architectures with random weights, those that keep documents apart move by 0,
and the others by 2e-4 (LFM2 in float32) to 1.5."""
_ROUNDINGS = 3.0
"""A leak is more than so many times what the same document moves by when it is computed in another shape."""
_AHEAD = {torch.float32: 1e-4}
_HALF_AHEAD = 5e-2
"""Above it a token sees what comes after it. In half precision the experts of a mixture round as their company does."""


@dataclass(frozen=True)
class Found:
    packed: bool
    """Whether documents may share a row."""
    reason: str


def look(model: Any, tokens: np.ndarray, *, max_length: int) -> Found:
    """Returns whether documents may share a row of this model. The same model and tokens give the same answer.

    A document is computed behind another one, behind one of other tokens, and before it: where its logits move by more
    than rounding, it sees its neighbour. Six short forward passes, no gradient, no random number.

    Args:
        model: as it will be trained, on its device, with the attention that it will have.
        tokens: of the stage's data, at least one.

    Raises BadModel when the model cannot be trained at all: it cannot be called with tokens alone, has no output layer,
    or lets a token see what comes after it, so that it would learn to copy.
    """
    if model.get_output_embeddings() is None:
        raise BadModel(f"model.from: {_name(model)} has no output layer, so it predicts no tokens")
    size = max(1, min(TOKENS, max_length // 2))
    drawn = torch.from_numpy(np.resize(np.asarray(tokens[: 2 * size], np.int64), 2 * size)).to(model.device)
    before, document = drawn[:size], drawn[size:]
    changed = (before + 1) % vocabulary.size(model)
    with _evaluating(model), pieces.whole_while_called(model), torch.no_grad():
        alone = _logits(model, [document], packed=False)
        ahead = _logits(model, [document, before], packed=False)[:size]
        if not torch.isfinite(alone).all():
            return Found(False, "its logits are not numbers, so it cannot be asked whether documents see each other")
        _refuse_seers(model, ahead, _logits(model, [document, changed], packed=False)[:size])
        if reason := _told(model, max_length):
            return Found(False, reason)
        behind = _logits(model, [before, document], packed=True)[size:]
        behind_changed = _logits(model, [changed, document], packed=True)[size:]
        first = _logits(model, [document, before], packed=True)[:size]
    moved = max(_moved(behind_changed, behind), _moved(behind, first))
    limit = max(_FLOOR.get(model.dtype, _HALF_FLOOR), _ROUNDINGS * _moved(ahead, alone))
    if moved <= limit:
        return Found(True, f"a document behind another one is computed as by itself (moved by {moved:.1g})")
    return Found(False, f"{_name(model)} lets documents of a row see each other (logits moved by {moved:.1g})")


def _told(model: Any, max_length: int) -> str | None:
    """Returns why documents cannot share rows, where that is known of the architecture; a short row would not show a
    border that comes after thousands of tokens, nor half precision a state that fades."""
    if count := prompt_adapters.virtual_tokens(model):
        return f"{count} virtual tokens stand in front of each document"
    if "position_ids" not in inspect.signature(type(_base(model)).forward).parameters:
        return f"{_name(model)} takes no positions, so it cannot be told where a document begins"
    config = model.config.get_text_config()
    kinds = {kind for name in ("layer_types", "layers_block_type", "block_types") for kind in _listed(config, name)}
    if carrying := sorted(kind for kind in kinds if "attention" not in kind or "linear" in kind):
        return f"{_name(model)} has layers that carry a state from document to document ({', '.join(carrying)})"
    chunk = getattr(config, "attention_chunk_size", None)
    if chunk and (chunk < max_length or model.config._attn_implementation not in BY_ROWS):
        return f"{_name(model)} cuts its attention every {chunk} tokens, counted from the start of a row"
    return None


def _listed(config: Any, name: str) -> list[str]:
    found = getattr(config, name, None)
    return [kind for kind in found if isinstance(kind, str)] if isinstance(found, list | tuple) else []


def _refuse_seers(model: Any, one: torch.Tensor, other: torch.Tensor) -> None:
    if _moved(one, other) > _AHEAD.get(model.dtype, _HALF_AHEAD):
        raise BadModel(
            f"model.from: {_name(model)} lets a token see what comes after it, so it would learn to copy and not to "
            "predict. Use a causal language model (of a model that can be both, set is_decoder in its config.json)"
        )


def _logits(model: Any, documents: list[torch.Tensor], *, packed: bool) -> torch.Tensor:
    """Returns float32 [tokens, vocabulary] of one row."""
    batch = Batch.of_documents(documents)
    inputs = model_inputs(batch, attention=model.config._attn_implementation, packed=packed)
    try:
        return model(**inputs).logits[0].float()
    except (TypeError, ValueError, NotImplementedError, AttributeError, LookupError) as error:
        raise BadModel(
            f"model.from: {_name(model)} is not a language model that can be trained here: called with a row of "
            f"tokens, it fails with {type(error).__name__}: {first_line(error)}"
        ) from error


def _moved(one: torch.Tensor, other: torch.Tensor) -> float:
    """Returns by how much the logits of the token that moved most differ, as a share of how much logits differ from
    word to word (both as root mean squares); infinity where they are not numbers."""
    scale = (other - other.mean(-1, keepdim=True)).pow(2).mean().sqrt().clamp_min(1e-30)
    moved = float((one - other).pow(2).mean(-1).sqrt().max() / scale)
    return moved if moved == moved else float("inf")


def _base(model: Any) -> nn.Module:
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def _name(model: Any) -> str:
    return str(model.config.model_type)


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)
