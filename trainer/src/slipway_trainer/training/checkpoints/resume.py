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
from slipway_trainer.training.checkpoints.reshard import Saved
from slipway_trainer.training.checkpoints.train_state import TrainState
from slipway_trainer.training.process_group import Ranks


def resume(engine: Any, checkpoints: Checkpoints) -> TrainState | None:
    """Puts the newest complete checkpoint into the engine and returns where that was; None when there is none.

    Raises BadCheckpoint when it was written by another number of processes, or under another ZeRO stage, and cannot be
    divided anew: with the blocks of AdamW8bit.
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
    """Puts the trained weights of a checkpoint back, and where they are in the ranks' files alone (ZeRO-3) the
    optimizer too.

    Raises BadCheckpoint when they are not the weights that this stage trains.
    """
    state = TrainState.load(path / checkpoint_files.STATE)
    if 3 in (state.zero_stage, engine.zero_optimization_stage()):
        _load_optimizer(engine, path, state, ranks)
    else:
        _load_weights_file(engine, path)


def _load(engine: Any, path: Path, state: TrainState, ranks: Ranks, log: Callable[[str], None]) -> None:
    """Puts weights, optimizer and random generators back as they were."""
    if (now := (engine.zero_optimization_stage(), ranks.world)) != (state.zero_stage, state.world):
        log(f"the checkpoint was written {_in_words(state.zero_stage, state.world)} and goes on {_in_words(*now)}")
    if 3 not in (state.zero_stage, engine.zero_optimization_stage()):
        _load_weights_file(engine, path)
    _load_optimizer(engine, path, state, ranks)
    if state.world == ranks.world:
        randomness.restore(checkpoint_files.read(_parts(path)[ranks.rank], mapped=True)["random"])


def _in_words(zero_stage: int, world: int) -> str:
    return f"by {world} process(es) under ZeRO {zero_stage}"


def _parts(path: Path) -> list[Path]:
    return sorted(path.glob("rank-*.pt"))


def _load_optimizer(engine: Any, path: Path, state: TrainState, ranks: Ranks) -> None:
    """Puts the optimizer back, and under ZeRO-3 the weights with it; cut anew where it was another engine's."""
    zero_stage = engine.zero_optimization_stage()
    if state.zero_stage == zero_stage and (zero_stage == 0 or state.world == ranks.world):
        mine = _parts(path)[ranks.rank if zero_stage else 0]
        reshard.load(engine, checkpoint_files.read(mine)["optimizer"], ranks)
        return
    files = _parts(path) if state.zero_stage else _parts(path)[:1]
    parts = [checkpoint_files.read(file, mapped=True)["optimizer"] for file in files]
    if not reshard.is_divisible(parts[0]):
        raise BadCheckpoint(
            f"{path}: was written {_in_words(state.zero_stage, state.world)}, and the 8-bit moments of AdamW8bit "
            f"cannot be divided anew to go on {_in_words(zero_stage, ranks.world)}. Set compute so that nodes × "
            f"processesPerNode is {state.world}, or start a new run with memory.zeroStage: 0"
        )
    try:
        _take_over(engine, path, state, parts, ranks)
    except ValueError as error:
        raise BadCheckpoint(
            f"{path}: holds other weights than this version trains ({error}). Start a run under another name"
        ) from None


def _take_over(engine: Any, path: Path, state: TrainState, parts: list[dict[str, Any]], ranks: Ranks) -> None:
    trained = [weight for group in reshard.groups_of(engine) for weight in group]
    sizes = [[reshard.numel(weight) for weight in group] for group in reshard.groups_of(engine)]
    weights: list[torch.Tensor] | None = None
    if state.zero_stage == 0:
        names = {id(parameter): name for name, parameter in engine.module.model.named_parameters()}
        saved_weights = _saved_weights(engine, path)
        weights = [saved_weights[names[id(weight)]] for weight in trained]
    saved = Saved(parts, state.zero_stage, sizes, weights)
    reshard.take_over(engine, saved, parts, ranks)
    if state.zero_stage == 3 and engine.zero_optimization_stage() < 3:
        with torch.no_grad():
            for number, weight in enumerate(trained):
                weight.copy_(saved.weight(number, weight))


def _load_weights_file(engine: Any, path: Path) -> None:
    saved = _saved_weights(engine, path)
    with torch.no_grad():
        for name, parameter in engine.module.model.named_parameters():
            if parameter.requires_grad:
                parameter.copy_(saved[name])


def _saved_weights(engine: Any, path: Path) -> dict[str, torch.Tensor]:
    """Returns the trained weights by name. Raises BadCheckpoint when they are others than the engine trains."""
    saved = checkpoint_files.read(path / checkpoint_files.WEIGHTS, mapped=True)
    wanted = {name for name, parameter in engine.module.model.named_parameters() if parameter.requires_grad}
    if other := sorted(wanted.symmetric_difference(saved)):
        raise BadCheckpoint(
            f"{path}: holds other weights than this version trains ({other[0]} is in one of both alone). Start a run "
            "under another name"
        )
    return saved
