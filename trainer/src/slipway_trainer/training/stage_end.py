"""How a stage ends: the weights that `select` asks for, written as a model or an adapter, and the figures of it all."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from slipway_core.protocol import step_result
from slipway_core.protocol.step_result import StepResult
from slipway_core.resources.status import Progress
from slipway_trainer.model import token_rows, weight_files
from slipway_trainer.training import deepspeed_engine as engines
from slipway_trainer.training import stage_output
from slipway_trainer.training.checkpoints import resume
from slipway_trainer.training.checkpoints.atomic_checkpoints import Checkpoints
from slipway_trainer.training.checkpoints.train_state import TrainState
from slipway_trainer.training.resolved import Resolved
from slipway_trainer.training.stage_attempt import StageAttempt


def end(
    attempt: StageAttempt, engine: Any, checkpoints: Checkpoints, state: TrainState, decided: Resolved
) -> StepResult:
    """Writes the weights that `select` asks for, and says how the stage went; the result of rank 0 holds it.

    Raises Superseded when a newer attempt has the stage, OSError when the disk is full.
    """
    step, chosen = _select(attempt, engine, checkpoints, state)
    attempt.say("writing the model")
    adapter = attempt.stage.adapter is not None
    model = engine.module.model
    # A file at a time: all of a large model would not fit into the memory of one host.
    files = [engines.trained_names(engine)] if adapter else weight_files.split(model)

    def gather(names: list[str]) -> dict[str, torch.Tensor]:
        return engines.gathered_state(engine, names)

    if not attempt.ranks.first:
        for names in files:
            gather(names)
        return StepResult(step=attempt.stage.name, attempt=attempt.number)

    def write(path: Path) -> None:
        path.mkdir(parents=True)
        if adapter:
            _write_adapter(model, gather(files[0]), path)
        else:
            model.config.use_cache = True
            weight_files.write(model, path, files, gather)

    metrics, missing = _metrics(chosen, step)
    ended = stage_output.publish(
        attempt.folder,
        write,
        kind="adapter" if adapter else "model",
        step=step,
        metrics=metrics,
        progress=_progress(attempt, chosen, decided),
        fence=attempt.fence,
    )
    if chosen.step < decided.total_steps:
        attempt.log(f"stopped early at step {chosen.step}: the validation loss has not fallen any more")
    attempt.log(f"done: {ended.kind} of step {step}")
    result = stage_output.result(ended, stage=attempt.stage.name, attempt=attempt.number)
    return result.model_copy(update={"missing": missing})


def _select(attempt: StageAttempt, engine: Any, checkpoints: Checkpoints, state: TrainState) -> tuple[int, TrainState]:
    """Puts the weights that are asked for into the engine. Returns their step, and the state with what validation said
    of them."""
    if attempt.stage.select != "Best" or state.validation_loss is None:
        return state.step, state
    best = state.best_step
    if best is not None and best != state.step and not checkpoints.is_whole(best):
        attempt.log(f"the checkpoint of step {best} is not there any more")
        best = None
    chosen, loss, accuracy = best, state.best_loss, state.best_accuracy
    # The last step's are in the engine, whether or not they could be written.
    if chosen is None or loss is None or state.is_better:
        chosen, loss, accuracy = state.step, state.validation_loss, state.validation_accuracy
    if accuracy is None and state.lowest_loss is not None and state.lowest_loss < loss:
        attempt.add_warning(
            f"select: Best ends with step {chosen} (validation loss {loss:.4f}): the checkpoint of the lowest "
            f"one ({state.lowest_loss:.4f}) could not be kept"
        )
    if chosen != state.step:
        resume.load_weights(engine, checkpoints.folder.checkpoint(chosen), attempt.ranks)
    return chosen, replace(state, validation_loss=loss, validation_accuracy=accuracy)


def _metrics(state: TrainState, step: int) -> tuple[dict[str, float], dict[str, str]]:
    """Returns the figures that are finite, and the reason for each of the others."""
    metrics = {
        "loss": state.loss,
        "validation_loss": state.validation_loss,
        "margin": state.margin,
        "accuracy": state.accuracy,
        "validation_accuracy": state.validation_accuracy,
        "steps": float(state.step),
        "selected_step": float(step),
        "tokens": float(state.tokens),
        "seconds": round(state.seconds, 3),
        "tokens_per_second": _speed(state),
    }
    return step_result.split_finite({name: value for name, value in metrics.items() if value is not None})


def _progress(attempt: StageAttempt, state: TrainState, decided: Resolved) -> Progress:
    told = attempt.reporter.progress if attempt.reporter else Progress()
    done = {
        "tokens_per_second": _speed(state),
        "mfu": told.mfu,
        "peak_memory_bytes": told.peak_memory_bytes,
        "eta_seconds": 0.0,
        "warnings": told.warnings,
    }
    return state.progress(decided.total_steps).model_copy(update=done)


def _speed(state: TrainState) -> float:
    return round(state.tokens / state.seconds if state.seconds else 0.0, 1)


def _write_adapter(model: Any, weights: dict[str, torch.Tensor], path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.save_pretrained(str(path), state_dict=weights, save_embedding_layers=False)
    token_rows.save(model, weights, path)
    (path / "README.md").unlink(missing_ok=True)
    config = path / "adapter_config.json"
    # A path of this machine otherwise; the adapter's base is what the stage before it left.
    settings = json.loads(config.read_text(encoding="utf-8")) | {"base_model_name_or_path": None}
    for names in ("target_modules", "modules_to_save"):
        if isinstance(settings.get(names), list):
            # peft has them as a set: in another process, with other hashes, the same adapter would have another digest.
            settings[names].sort()
    config.write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n", encoding="utf-8")
