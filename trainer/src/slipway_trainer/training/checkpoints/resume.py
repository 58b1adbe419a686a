"""Going on where the last attempt of a stage was: its newest complete checkpoint, back into the engine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from slipway_trainer.step.errors import BadCheckpoint
from slipway_trainer.training import randomness
from slipway_trainer.training.checkpoints import checkpoint_files, reshard
from slipway_trainer.training.checkpoints.atomic_checkpoints import Checkpoints
from slipway_trainer.training.checkpoints.train_state import TrainState
from slipway_trainer.training.process_group import Ranks


def resume(engine: Any, checkpoints: Checkpoints) -> TrainState | None:
    """Puts the newest complete checkpoint into the engine and returns where that was; None when there is none.

    Raises BadCheckpoint when it was written by another number of processes and cannot be divided anew: under ZeRO-3,
    or with AdamW8bit under ZeRO 1 and 2.
    """
    had_any = bool(checkpoints.complete()) if checkpoints.ranks.first else False
    checkpoints.clean()
    found = checkpoints.newest()
    if found is None:
        if had_any:
            checkpoints.log("no complete checkpoint is left: starting over")
        return None
    path, state = found
    _load(engine, path, state, checkpoints.ranks, checkpoints.log)
    checkpoints.log(f"going on from step {state.step} ({path.name})")
    return _with_best_that_is_there(state, checkpoints)


def _with_best_that_is_there(state: TrainState, checkpoints: Checkpoints) -> TrainState:
    """Returns the state; without its best step where no whole checkpoint of that is left: it is looked for anew."""
    if state.best_step in (None, state.step) or checkpoints.is_whole(state.best_step):
        return state
    checkpoints.log(
        f"the checkpoint of step {state.best_step}, which was the best (validation loss {state.best_loss}), is not "
        "there any more: select: Best looks for the best of what comes"
    )
    return replace(state.without_best(), lowest_loss=state.lowest_loss or state.best_loss)


def load_weights(engine: Any, path: Path, ranks: Ranks) -> None:
    """Puts the trained weights of a checkpoint back, and under ZeRO-3 (where they are in the ranks' files) the
    optimizer too."""
    if engine.zero_optimization_stage() == 3:
        mine = checkpoint_files.read(path / checkpoint_files.rank_name(ranks.rank))
        reshard.load(engine, mine["optimizer"], ranks)
        return
    saved = checkpoint_files.read(path / checkpoint_files.WEIGHTS)
    wanted = {name for name, parameter in engine.module.model.named_parameters() if parameter.requires_grad}
    if other := sorted(wanted.symmetric_difference(saved)):
        raise BadCheckpoint(
            f"{path}: holds other weights than this version trains ({other[0]} is in one of both alone). Start a run "
            "under another name"
        )
    with torch.no_grad():
        for name, parameter in engine.module.model.named_parameters():
            if parameter.requires_grad:
                parameter.copy_(saved[name])


def _load(engine: Any, path: Path, state: TrainState, ranks: Ranks, log: Callable[[str], None]) -> None:
    """Puts weights, optimizer and random generators back as they were."""
    same_world = state.world == ranks.world
    if state.zero_stage == 3 and not same_world:
        raise BadCheckpoint(
            f"{path}: was written by {state.world} processes under ZeRO-3 and cannot go on with {ranks.world}. "
            f"Set compute so that nodes × processesPerNode is {state.world}, or start a new run with zeroStage: 2"
        )
    load_weights(engine, path, ranks)
    files = sorted(path.glob("rank-*.pt"))
    if same_world:
        mine = checkpoint_files.read(files[ranks.rank])
        randomness.restore(mine["random"])
    else:
        log(
            f"the checkpoint was written by {state.world} processes and goes on with {ranks.world}: "
            "the optimizer is divided anew"
        )
        mine = checkpoint_files.read(files[0])
    optimizer = mine["optimizer"]
    if state.zero_stage in (1, 2) and not same_world:
        if not reshard.is_divisible(optimizer):
            raise BadCheckpoint(
                f"{path}: was written by {state.world} processes, and the 8-bit moments of AdamW8bit cannot be divided "
                f"anew for {ranks.world}. Set compute so that nodes × processesPerNode is {state.world}, or start a "
                "new run with memory.zeroStage: 0"
            )
        parts = [checkpoint_files.read(file)["optimizer"] for file in files]
        optimizer = reshard.for_rank(parts, engine.optimizer, ranks.rank)
    elif state.zero_stage == 0 and same_world and ranks.rank > 0:
        optimizer = checkpoint_files.read(files[0])["optimizer"]
    reshard.load(engine, optimizer, ranks)
