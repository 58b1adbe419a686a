"""What the plan leaves to the device: decided by the first attempt of a stage, written down once, and told with its
reasons.
"""

from __future__ import annotations

from typing import Any

from slipway_trainer.batches import row_stream
from slipway_trainer.batches.row_stream import RowStream
from slipway_trainer.batches.shards import Shards
from slipway_trainer.model import adapter_targets, adapters, compiled_blocks, document_probe, lineage, token_rows
from slipway_trainer.step.errors import BadConfig
from slipway_trainer.tokens import tokenizer
from slipway_trainer.training import memory, model_size, precision, process_group
from slipway_trainer.training.memory import Machine, ModelSize
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

    Raises Superseded when a newer attempt has the stage.
    """
    stage, ranks = attempt.stage, attempt.ranks
    extent = row_stream.extent(stage, stream)
    size = model_size.of_model(model, stage)
    device = ranks.device.type
    free = memory.free_bytes(device, ranks.local_world)
    choice = memory.choose(size, stage, chosen, Machine(device, free, ranks.world), extent.sequences)
    # Every rank sees another amount of free memory.
    choice = process_group.of_first(choice, ranks)
    compiled, why_compiled = _compiled(attempt, model, choice.zero_stage)
    decided = Resolved(
        precision=chosen,
        zero_stage=choice.zero_stage,
        micro_batch=choice.micro_batch,
        gradient_checkpointing=choice.gradient_checkpointing,
        attention=model.config._attn_implementation,
        packed=told_apart.packed,
        compile=compiled,
        target_modules=(adapters.targets_of(model) or None) if stage.adapter else None,
        world_size=ranks.world,
        sequences=extent.sequences,
        total_rows=extent.rows,
        total_steps=extent.steps,
        data_digest=shards.digest,
        versions=lineage.libraries(),
        reasons=choice.reasons
        | {"precision": precision.reason(stage, device), "packing": told_apart.reason, "compile": why_compiled}
        | ({"adapter.targetModules": left_out} if (left_out := adapter_targets.left_out(model, stage)) else {})
        | ({"adapter.rows": rows} if (rows := _rows(attempt, model)) else {}),
    )
    if ranks.first:
        attempt.fence.check()
        decided.write(attempt.folder.resolved)
        _tell(attempt, decided, size)
    return decided


def _compiled(attempt: StageAttempt, model: Any, zero_stage: int) -> tuple[bool, str]:
    """Returns whether the blocks are compiled, and why; the same on all ranks. Raises BadConfig where the plan wants it
    and this machine cannot."""
    wanted, device = attempt.stage.compile, attempt.ranks.device
    if wanted == "Disabled":
        return False, "set in the plan"
    if zero_stage == 3:
        return False, "ZeRO-3 fetches weights within each block"
    against = compiled_blocks.unfit(model)
    if against is None and wanted == "Auto":
        if device.type == "cpu":
            against = "on a CPU it gains too little for the time that it takes"
        else:
            against = compiled_blocks.untried(model) or lacking(attempt)
    if wanted == "Enabled" and against is None and (lacks := lacking(attempt)):
        raise BadConfig(f"stages[{attempt.stage.name}].compile: Enabled, but {lacks}. Install it, or set Disabled")
    return against is None, against or ("set in the plan" if wanted == "Enabled" else "a GPU with a compiler beside it")


def lacking(attempt: StageAttempt) -> str | None:
    """Returns what any rank lacks to compile, in words; the same on all of them."""
    own = compiled_blocks.missing(attempt.ranks.device)
    missing = next(filter(None, process_group.of_all(own, attempt.ranks)), None)
    return None if missing is None else f"this machine has not {missing}"


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
    attempt.log(f"blocks {'compiled' if decided.compile else 'not compiled'}: {why['compile']}")
    attempt.log(f"{'several documents' if decided.packed else 'one document'} a row: {why['packing']}")
    if "adapter.rows" in why:
        attempt.log(why["adapter.rows"])
    if decided.target_modules:
        left_out = why.get("adapter.targetModules")
        attempt.log(f"adapter on {', '.join(decided.target_modules)}{f'; {left_out}' if left_out else ''}")
