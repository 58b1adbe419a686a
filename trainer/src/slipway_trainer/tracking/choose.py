"""From what a process is told of trackers to the trackers."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass

from pydantic import ValidationError

from slipway_core.protocol import variables
from slipway_core.resources.tracking import Tracking
from slipway_trainer.step.errors import BadConfig
from slipway_trainer.tracking.tracker import TrackedRun, Tracker

KEYS = (
    "WANDB_API_KEY",
    "MLFLOW_TRACKING_TOKEN",
    "MLFLOW_TRACKING_USERNAME",
    "MLFLOW_TRACKING_PASSWORD",
)
"""Variables with secrets of trackers: nobody else than they is to have them."""


def asked(environment: Mapping[str, str] = os.environ) -> Tracking | None:
    """Returns what the executor says of trackers. Raises BadConfig when that is not what it should be."""
    text = environment.get(variables.TRACKING_VARIABLE)
    if not text:
        return None
    try:
        return Tracking.model_validate_json(text, by_alias=True, by_name=False)
    except ValidationError as error:
        raise BadConfig(f"{variables.TRACKING_VARIABLE}: {error.errors()[0]['msg']}") from None


@dataclass(frozen=True)
class Choice:
    """A tracker that is asked for."""

    name: str
    target: str
    """Where it is told: elsewhere it has nothing yet."""
    make: Callable[[], Tracker]


def choices(tracking: Tracking, run: TrackedRun) -> list[Choice]:
    """Returns the trackers that are asked for. The library of one is imported when it begins."""
    from slipway_trainer.tracking.mlflow_server import MlflowServer
    from slipway_trainer.tracking.tensorboard_files import TensorBoardFiles
    from slipway_trainer.tracking.wandb_run import WandbRun

    found: list[Choice] = []
    if (wandb := tracking.wandb) is not None:
        found.append(Choice("wandb", f"{wandb.entity or ''}/{wandb.project}", lambda: WandbRun(run, wandb)))
    if (mlflow := tracking.mlflow) is not None:
        found.append(Choice("mlflow", f"{mlflow.uri} {mlflow.experiment}", lambda: MlflowServer(run, mlflow)))
    if tracking.tensorboard is not None:
        found.append(Choice("tensorboard", "tensorboard", lambda: TensorBoardFiles(run)))
    return found


def take_keys(environment: MutableMapping[str, str] = os.environ) -> dict[str, str]:
    """Takes the secrets of trackers out of an environment: a process that trains has none of them."""
    return {name: environment.pop(name).strip() for name in KEYS if name in environment}


def trim_keys(environment: MutableMapping[str, str] = os.environ) -> None:
    """Takes the line end off secrets that came from a file: no request can carry one, and libraries quote what they
    cannot send."""
    environment.update(take_keys(environment))


def without_secrets(text: str, environment: Mapping[str, str] = os.environ) -> str:
    """Returns what a library said, without a key in it."""
    for name in (*KEYS, "HF_TOKEN"):
        # Without the line end of a file: what quotes it shows that otherwise.
        if secret := environment.get(name, "").strip():
            text = text.replace(secret, "***")
    return text
