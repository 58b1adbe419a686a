"""Where the curves and the verdict of a run are shown beside its status: the trackers that people have."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from slipway_core.resources.api import Api, Rule, ShortText

_CONTROLS = r"\x00-\x1f\x7f-\x9f"
PROJECT_PATTERN = rf"^[^{_CONTROLS}/\\#?%:]+$"
EXPERIMENT_PATTERN = rf"^[^{_CONTROLS}]+$"
SERVER_PATTERN = r"^https?://[^\x00-\x20\x7f?#]+$"

ProjectName = Annotated[str, Field(pattern=PROJECT_PATTERN, min_length=1, max_length=128)]
EntityName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$", min_length=1, max_length=128)]
ExperimentName = Annotated[str, Field(pattern=EXPERIMENT_PATTERN, min_length=1, max_length=256)]
ServerUri = Annotated[str, Field(pattern=SERVER_PATTERN, max_length=1024)]


class Wandb(Api):
    """Weights & Biases."""

    project: ProjectName
    """It is made when it does not exist."""
    entity: EntityName | None = None
    """User or team that has the project; left out, the default one of the key."""
    credentials: ShortText
    """Secret with the key WANDB_API_KEY. Locally, the environment is used."""


class Mlflow(Api):
    """An MLflow tracking server."""

    rules: ClassVar = (
        Rule(
            "!self.uri.contains('@')",
            "the uri must hold no user and no password: put them into the Secret that credentials names",
            lambda self: "@" not in self.uri,
            "uri",
        ),
    )

    uri: ServerUri
    """Address of the server: http://mlflow.ml:5000."""
    experiment: ExperimentName
    """It is made when it does not exist."""
    credentials: ShortText | None = None
    """Secret with the key MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD. Locally, the
    environment is used."""


class TensorBoard(Api):
    """Event files in the folder tensorboard of the run's workspace."""


class Tracking(Api):
    """Trackers that are sent the plan, the curves, the evaluation and the verdict. One that is away, slow or refuses
    its key never stops or slows a training, and is caught up later."""

    rules: ClassVar = (
        Rule(
            "has(self.wandb) || has(self.mlflow) || has(self.tensorboard)",
            "set at least one of wandb, mlflow and tensorboard",
            lambda self: any(one is not None for one in (self.wandb, self.mlflow, self.tensorboard)),
        ),
    )

    wandb: Wandb | None = None
    mlflow: Mlflow | None = None
    tensorboard: TensorBoard | None = None

    @property
    def names(self) -> list[str]:
        """The trackers that are asked for."""
        return [name for name in type(self).model_fields if getattr(self, name) is not None]
