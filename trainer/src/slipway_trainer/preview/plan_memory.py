"""How much memory the stages of a plan take, told from the plan and the files of its base model: no data is read."""

from __future__ import annotations

import tempfile
from pathlib import Path

from slipway_core.plan import Plan
from slipway_core.protocol.preview import PlanMemory, StageMemory
from slipway_core.resources import uris
from slipway_fetching import model_cache
from slipway_trainer.batches import row_stream
from slipway_trainer.model.model_folder import model_folder
from slipway_trainer.preview import base_model, stage_memory, stage_sizes
from slipway_trainer.step.progress import Say
from slipway_trainer.step.requester import requester
from slipway_trainer.tokens import tokenizer
from slipway_trainer.training import devices


def of_plan(plan: Plan, device: str | None, processes: int | None, say: Say) -> PlanMemory:
    """
    Args:
        device: name of a device; what this machine has when None.
        processes: of each stage; those of the plan when None.

    Raises BadConfig for a device that is not known, BadModel when the model cannot be made, and a FetchError when what
    lies elsewhere cannot be fetched.
    """
    found = devices.named(device) if device is not None else devices.here()
    world = processes or stage_memory.processes_of(plan)
    with tempfile.TemporaryDirectory(prefix="slipway-memory-") as folder:
        base = base_model.of_plan(plan, Path(folder) / "models", say)
        sizes = list(stage_sizes.of_plan(plan, base, _ids(plan, Path(folder) / "tokenizer", say)))
    return PlanMemory(
        run=plan.run.name,
        device=found.name,
        stages=[
            StageMemory(
                name=stage.name,
                parameters=size.parameters,
                trained=size.trainable,
                memory=stage_memory.view(plan, stage, size, found, row_stream.sequences_of(stage), world),
            )
            for stage, size in zip(plan.stages, sizes, strict=True)
        ],
    )


def _ids(plan: Plan, cache: Path, say: Say) -> int:
    """Returns how many ids the tokenizer of a new model has; one that is yet to be trained, those that it may have."""
    scratch = plan.model.scratch
    if scratch is None:
        return 0
    if scratch.tokenizer.train is not None:
        return scratch.tokenizer.train.vocab_size + len(plan.model.add_tokens or ())
    uri, field = scratch.tokenizer.from_, "model.scratch.tokenizer.from"
    assert uri is not None
    if uris.parse(uri).remote:
        folder = model_cache.fetch(uri, requester(field), cache, weights=False, say=say)
    else:
        folder = model_folder(uri, field)
    return tokenizer.id_count(tokenizer.from_folder(folder, field)) + len(plan.model.add_tokens or ())
