"""Tokens that a run adds and that none of its training data holds: nothing would be learned of them."""

from __future__ import annotations

import numpy as np
from transformers import PreTrainedTokenizerBase

from slipway_core.plan import Plan
from slipway_core.protocol.workspace import Workspace
from slipway_trainer.batches.shards import Shards
from slipway_trainer.tokens import added_tokens

_CHUNK = 1 << 24


def find(plan: Plan, workspace: Workspace, words: PreTrainedTokenizerBase) -> list[str]:
    """Returns those of model.addTokens that the shards of no stage hold, in the order of the plan."""
    wanted = plan.model.add_tokens or []
    left = set(added_tokens.ids(words, wanted))
    for stage in plan.stages:
        if not left:
            break
        tokens = Shards.open(workspace.stage(stage.name).data("train")).tokens
        for start in range(0, len(tokens), _CHUNK):
            left -= set(np.intersect1d(tokens[start : start + _CHUNK], sorted(left)).tolist())
    return [token for token in wanted if words.convert_tokens_to_ids(token) in left]
