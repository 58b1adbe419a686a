"""How far a merged model is from the one that was trained, where that had its base in 4 bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from slipway_core.plan import Plan
from slipway_core.protocol.workspace import Workspace
from slipway_trainer.batches.shards import Shards
from slipway_trainer.model import four_bits, stage_model
from slipway_trainer.model.logit_check import SAMPLE_LENGTH, SAMPLE_ROWS, sample_logits


def learned_tokens(plan: Plan, ws: Workspace) -> torch.Tensor:
    """Returns the first tokens of the last stage's data, int64 [rows, length]."""
    stage = plan.stages[-1]
    length = min(SAMPLE_LENGTH, stage.max_length)
    learned = Shards.open(ws.stage(stage.name).data("train")).tokens
    return torch.from_numpy(np.resize(np.asarray(learned[: SAMPLE_ROWS * length], np.int64), (SAMPLE_ROWS, length)))


def measure(plan: Plan, ws: Workspace, merged: PreTrainedModel, dtype: torch.dtype) -> dict[str, Any] | None:
    """Returns the largest difference between the logits of both for tokens of the last stage's data, and the largest
    logit; None where the last stage had its base as it is.

    Args:
        merged: as it is written.
        dtype: in which the stage computed.
    """
    stage = plan.last_stage
    if stage is None or not four_bits.held_by(stage):
        return None
    tokens = learned_tokens(plan, ws)
    trained: Any = stage_model.load_as_trained(plan, ws, stage.name, dtype=dtype)
    wanted = sample_logits(trained, tokens)
    difference = (sample_logits(merged, tokens) - wanted).abs().max()
    return {
        "stage": stage.name,
        "largest_difference": round(float(difference), 6),
        "largest_logit": round(float(wanted.abs().max()), 6),
    }
