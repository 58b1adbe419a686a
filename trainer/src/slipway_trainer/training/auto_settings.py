"""What the plan leaves to the device: decided by the first attempt of a stage, written down, and told with its reasons.
What fits is decided anew for another number of processes.
"""

from __future__ import annotations

from typing import Any

from slipway_core.resources.stage import Stage
from slipway_trainer.batches import row_stream
from slipway_trainer.batches.row_stream import RowStream
from slipway_trainer.batches.shards import Shards
from slipway_trainer.model import adapter_targets, adapters, compiled_blocks, document_probe, lineage, token_rows
from slipway_trainer.step.errors import BadConfig
from slipway_trainer.tokens import tokenizer
from slipway_trainer.training import memory, memory_limits, model_size, precision, process_group
from slipway_trainer.training.memory import Choice
from slipway_trainer.training.model_shape import ModelSize
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
        attempt=attempt.number,
        sequences=extent.sequences,
        total_rows=extent.rows,
        total_steps=extent.steps,
        data_digest=shards.digest,
        versions=lineage.libraries(),
        reasons=choice.reasons
        | {
            "precision": precision.reason(stage, ranks.device.type),
            "packing": told_apart.reason,
            "compile": why_compiled,
        }
        | ({"adapter.targetModules": left_out} if (left_out := adapter_targets.left_out(model, stage)) else {})
        | ({"adapter.rows": rows} if (rows := _rows(attempt, model)) else {}),
    )
    if ranks.first:
        attempt.fence.check()
        decided.write(attempt.folder.resolved)
        _tell(attempt, decided, size)
    return decided


def decide_anew(attempt: StageAttempt, model: Any, decided: Resolved) -> Resolved:
    """Returns what was decided, with what fits this number of processes, the same on all ranks; it is in resolved.json
    then. What the plan says itself stays.

    Args:
        model: as for `decide`.
        decided: for another number.

    Raises BadConfig when it cannot fit into the memory any more, Superseded when a newer attempt has the stage.
    """
    stage, ranks = attempt.stage, attempt.ranks
    reason = process_group.of_first(_stays(attempt), ranks)
    if reason is not None:
        kept = stage.memory.model_copy(update={"zero_stage": decided.zero_stage})
        stage = stage.model_copy(update={"memory": kept})
    size = model_size.of_model(model, stage)
    choice = _choice(attempt, stage, size, decided.precision, decided.sequences)
    compiled, why_compiled = _compiled(attempt, model, choice.zero_stage)
    anew = decided.for_processes(
        ranks.world,
        attempt=attempt.number,
        zero_stage=choice.zero_stage,
        micro_batch=choice.micro_batch,
        gradient_checkpointing=choice.gradient_checkpointing,
        compile=compiled,
        reasons=choice.reasons | {"compile": why_compiled} | ({} if reason is None else {"zeroStage": reason}),
    )
    if ranks.first:
        attempt.fence.check()
        anew.write(attempt.folder.resolved)
        attempt.log(f"began with {decided.world_size} process(es), goes on with {ranks.world}")
        _tell_what_fits(attempt, anew)
    return anew


def decides_anew(attempt: StageAttempt, decided: Resolved) -> bool:
    """Returns whether a ZeRO stage that the plan leaves open is decided anew: for another number of processes. The same
    on all ranks."""
    return decided.world_size != attempt.ranks.world and process_group.of_first(_stays(attempt), attempt.ranks) is None


def _stays(attempt: StageAttempt) -> str | None:
    """Returns why the ZeRO stage has to stay what it was where the plan does not say one; None where it does not."""
    begun = any(attempt.folder.checkpoints.glob("step-*"))
    if attempt.stage.memory.zero_stage == "Auto" and attempt.stage.optimizer.name == "AdamW8bit" and begun:
        return "the 8-bit moments of AdamW8bit, which a checkpoint has, cannot be cut anew"
    return None


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
    attempt.log(
        f"{size.parameters / 1e6:,.2f}M weights, {size.trainable / 1e6:,.2f}M of them trained; "
        f"{decided.total_steps} steps of {decided.sequences} rows"
    )
    attempt.log(f"precision {decided.precision}: {why['precision']}")
    _tell_what_fits(attempt, decided)
    attempt.log(f"{'several documents' if decided.packed else 'one document'} a row: {why['packing']}")
    if "adapter.rows" in why:
        attempt.log(why["adapter.rows"])
    if decided.target_modules:
        left_out = why.get("adapter.targetModules")
        attempt.log(f"adapter on {', '.join(decided.target_modules)}{f'; {left_out}' if left_out else ''}")


def _tell_what_fits(attempt: StageAttempt, decided: Resolved) -> None:
    why = decided.reasons
    checkpointing = "on" if decided.gradient_checkpointing else "off"
    attempt.log(f"ZeRO stage {decided.zero_stage} over {decided.world_size} process(es): {why['zeroStage']}")
    attempt.log(f"{decided.micro_batch} rows at once: {why['batch.microSequences']}")
    attempt.log(f"gradient checkpointing {checkpointing}: {why['gradientCheckpointing']}")
    attempt.log(f"blocks {'compiled' if decided.compile else 'not compiled'}: {why['compile']}")
