"""Whether a stage has its weights in pieces (ZeRO-3): asked before they are loaded, so that no rank has all of them."""

from __future__ import annotations

from slipway_trainer.batches import row_stream
from slipway_trainer.model import adapter_targets, adapters, blueprint
from slipway_trainer.model.model_folder import model_folder
from slipway_trainer.model.pieces import Pieces
from slipway_trainer.tokens import tokenizer
from slipway_trainer.training import auto_settings, memory, model_size, precision, process_group
from slipway_trainer.training import deepspeed_engine as engines
from slipway_trainer.training.precision import Precision
from slipway_trainer.training.resolved import Resolved
from slipway_trainer.training.stage_attempt import StageAttempt


def of_stage(attempt: StageAttempt, chosen: Precision, decided: Resolved | None) -> Pieces | None:
    """Returns how the weights are cut; None where every rank has them whole. The same on all ranks.

    Args:
        decided: by an earlier attempt; None when nothing was.
    """
    ranks = attempt.ranks
    if not _wanted(attempt, chosen, decided):
        return None
    config = engines.configuration(
        precision=chosen,
        zero_stage=3,
        micro_batch=1,
        max_grad_norm=0.0,
        world=ranks.world,
        device=ranks.device.type,
        offload=attempt.stage.memory.offload,
    )
    return Pieces(config, ranks.device, precision.DTYPES[chosen])


def _wanted(attempt: StageAttempt, chosen: Precision, decided: Resolved | None) -> bool:
    asked = attempt.stage.memory
    # What is Auto may be decided anew for another number of processes.
    if decided is not None and not (asked.zero_stage == "Auto" and auto_settings.decides_anew(attempt, decided)):
        return decided.zero_stage == 3
    if asked.zero_stage != "Auto" or asked.divides_weights or attempt.ranks.world == 1:
        return asked.divides_weights
    return process_group.of_first(zero_stage(attempt, chosen) == 3, attempt.ranks)


def zero_stage(attempt: StageAttempt, chosen: Precision) -> int:
    """Returns the ZeRO stage that the sizes of model and memory make, told from a model without weights."""
    plan, stage, ranks = attempt.plan, attempt.stage, attempt.ranks
    base = None
    if plan.model.from_ is not None:
        base = model_folder(plan.model.from_, fetched=attempt.workspace.fetched_models)
    model = blueprint.of_run(plan, base, tokenizer.load(attempt.workspace))
    if stage.adapter is not None:
        adapters.add_adapter(model, stage, adapter_targets.resolve(model, stage))
    device = ranks.device.type
    machine = memory.machine_of(device, ranks.world, ranks.local_world)
    size = model_size.of_model(model, stage)
    return memory.choose(size, stage, chosen, machine, row_stream.sequences_of(stage)).zero_stage
