"""Whether a written model computes what the one in memory computes: told by their logits of the same tokens."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from transformers import PreTrainedModel

from slipway_trainer.model import exported_model
from slipway_trainer.model.exported_model import ExportedModel
from slipway_trainer.model.prompt_adapters import virtual_tokens
from slipway_trainer.step.errors import BadArtifact, BadExport

SAMPLE_ROWS, SAMPLE_LENGTH = 2, 64
LOGIT_TOLERANCE = 1e-3
"""Largest difference, as a share of the largest logit, between the model in memory and the one that was written.
Both compute with the same weights and the same code, so anything above rounding is a lost or doubled weight."""


def sample_logits(model: PreTrainedModel, tokens: torch.Tensor | None = None) -> torch.Tensor:
    """Returns the logits of tokens int64 [rows, length], float32 [rows, length, vocabulary], on the CPU; of fixed
    random ones when None."""
    if tokens is None:
        config = model.config.get_text_config()
        room = (getattr(config, "max_position_embeddings", None) or SAMPLE_LENGTH * 2) - virtual_tokens(model)
        length = min(SAMPLE_LENGTH, room)
        generator = torch.Generator().manual_seed(0)
        tokens = torch.randint(config.vocab_size, (SAMPLE_ROWS, length), generator=generator)
    with torch.inference_mode():
        return model.eval()(input_ids=tokens.to(model.device), use_cache=False).logits.float().cpu()


def check_written(folder: Path, expected: torch.Tensor, dtype: torch.dtype, *, trust_remote_code: bool = False) -> None:
    """Loads what was written as a server would, and compares its logits with those of the model in memory.

    Raises BadExport when they differ.
    """
    check_loaded(lambda: exported_model.load(folder, dtype=dtype, trust_remote_code=trust_remote_code), expected)


def check_loaded(load: Callable[[], ExportedModel], expected: torch.Tensor) -> None:
    """Loads what was written, as `load` does, and compares its logits with those of the model in memory.

    Raises BadExport when they differ: then a weight was lost, emptied (DeepSpeed#7900) or written twice.
    """
    try:
        found = sample_logits(load().model)
    except BadArtifact as error:
        raise BadExport(f"what was written cannot be loaded: {error}") from None
    if found.shape != expected.shape:
        raise BadExport(f"what was written has logits of shape {list(found.shape)}, the model {list(expected.shape)}")
    # NaN on both sides is the model's own trouble: its evaluation is inconclusive, and no gate passes it.
    both = found.isnan() & expected.isnan()
    difference = (found - expected).abs().masked_fill(both | (found == expected), 0.0)
    largest, scale = float(difference.max()), float(torch.nan_to_num(expected).abs().max())
    if not largest <= LOGIT_TOLERANCE * max(1.0, scale):
        raise BadExport(
            f"what was written does not compute what the trained model computes: its logits differ by {largest:.3g} "
            f"(the largest logit is {scale:.3g}). This is a bug in the export; the artifact was not published"
        )
