"""What the plan leaves to the device: decided by the first attempt of a stage, written down once, and told with its
reasons.
"""

from __future__ import annotations

from typing import Any

from slipway_core.resources.stage import Stage
from slipway_trainer.batches import row_stream
from slipway_trainer.batches.row_stream import RowStream
from slipway_trainer.batches.shards import Shards
from slipway_trainer.model import adapter_targets, adapters, document_probe, lineage, token_rows
from slipway_trainer.step.errors import BadConfig
from slipway_trainer.tokens import tokenizer
from slipway_trainer.training import memory, memory_limits, model_size, precision, process_group
from slipway_trainer.training.memory import Choice, ModelSize
from slipway_trainer.training.precision import Precision
from slipway_trainer.training.resolved import Resolved
from slipway_trainer.training.stage_attempt import StageAttempt


def decide(
    attempt: StageAttempt,
    model: Any,
    chosen: Precision,
    stream: RowStream,
    shards: Shards,
    told_apart: document_probe.Found,
) -> Resolved:
    """Returns what was decided, the same on all ranks; it is in resolved.json then.

    Args:
        model: as it will be trained, with its adapter, in the precision that was chosen.
        told_apart: whether it keeps the documents of a row apart.

    Raises BadConfig when the stage cannot fit into the memory, Superseded when a newer attempt has the stage.
    """
    stage, ranks = attempt.stage, attempt.ranks
    extent = row_stream.extent(stage, stream)
    size = model_size.of_model(model, stage)
    choice = _choice(attempt, stage, size, chosen, extent.sequences)
    decided = Resolved(
        precision=chosen,
        zero_stage=choice.zero_stage,
        micro_batch=choice.micro_batch,
        gradient_checkpointing=choice.gradient_checkpointing,
        attention=model.config._attn_implementation,
        packed=told_apart.packed,
        target_modules=(adapters.targets_of(model) or None) if stage.adapter else None,
        world_size=ranks.world,
        sequences=extent.sequences,
        total_rows=extent.rows,
        total_steps=extent.steps,
        data_digest=shards.digest,
        versions=lineage.libraries(),
        reasons=choice.reasons
        | {"precision": precision.reason(stage, ranks.device.type), "packing": told_apart.reason}
        | ({"adapter.targetModules": left_out} if (left_out := adapter_targets.left_out(model, stage)) else {})
        | ({"adapter.rows": rows} if (rows := _rows(attempt, model)) else {}),
    )
    if ranks.first:
        attempt.fence.check()
        decided.write(attempt.folder.resolved)
        _tell(attempt, decided, size)
    return decided


def _choice(attempt: StageAttempt, stage: Stage, size: ModelSize, chosen: Precision, sequences: int) -> Choice:
    """Returns what fits on this device with this number of processes, the same on all ranks.

    Raises BadConfig where nothing does.
    """
    ranks = attempt.ranks
    machine = memory.machine_of(ranks.device.type, ranks.world, ranks.local_world)
    choice = memory.choose(size, stage, chosen, machine, sequences)
    refused = memory_limits.refusal(size, stage, chosen, machine, sequences, choice)
    # Every rank sees another amount of free memory.
    choice, refused = process_group.of_first((choice, refused), ranks)
    if refused is not None:
        raise BadConfig(refused)
    return choice


def _rows(attempt: StageAttempt, model: Any) -> str | None:
    """Returns which tokens an adapter trains rows of, in words."""
    rows = token_rows.of_model(model)
    if rows is None:
        return None
    names = tokenizer.load(attempt.workspace).convert_ids_to_tokens(rows.ids[:8])
    more = f" and {len(rows.ids) - 8} more" if len(rows.ids) > 8 else ""
    return f"the base never learned {', '.join(names)}{more}: their rows are trained with the adapter"


def _tell(attempt: StageAttempt, decided: Resolved, size: ModelSize) -> None:
    why = decided.reasons
    checkpointing = "on" if decided.gradient_checkpointing else "off"
    attempt.log(
        f"{size.parameters / 1e6:,.2f}M weights, {size.trainable / 1e6:,.2f}M of them trained; "
        f"{decided.total_steps} steps of {decided.sequences} rows"
    )
    attempt.log(f"precision {decided.precision}: {why['precision']}")
    attempt.log(f"ZeRO stage {decided.zero_stage} over {decided.world_size} process(es): {why['zeroStage']}")
    attempt.log(f"{decided.micro_batch} rows at once: {why['batch.microSequences']}")
    attempt.log(f"gradient checkpointing {checkpointing}: {why['gradientCheckpointing']}")
    attempt.log(f"{'several documents' if decided.packed else 'one document'} a row: {why['packing']}")
    if "adapter.rows" in why:
        attempt.log(why["adapter.rows"])
    if decided.target_modules:
        left_out = why.get("adapter.targetModules")
        attempt.log(f"adapter on {', '.join(decided.target_modules)}{f'; {left_out}' if left_out else ''}")
