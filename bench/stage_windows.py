"""The batches of a prepared stage as its training makes them, for a loop that is compared with it."""

from __future__ import annotations

from slipway_core.plan import Plan
from slipway_core.protocol.workspace import Workspace
from slipway_trainer.batches import mixed_rows, row_stream
from slipway_trainer.batches.shards import Shards
from slipway_trainer.tokens import tokenizer
from slipway_trainer.training.micro_batches import MicroBatches, Windows
from slipway_trainer.training.process_group import Ranks


def of_stage(plan: Plan, ws: Workspace, name: str, *, micro_batch: int) -> Windows:
    """Returns the windows of a stage for one process, documents packed."""
    stage = plan.stage(name)
    shards = Shards.open(ws.stage(name).data("train"))
    stream = mixed_rows.of_stage(stage, shards, shards.mixture)
    pad = int(tokenizer.load(ws).pad_token_id)  # type: ignore[arg-type]
    extent = row_stream.extent(stage, stream)
    micro = MicroBatches(shards, stage.max_length, micro_batch, True, pad, Ranks())
    return Windows(micro, stream, extent)
