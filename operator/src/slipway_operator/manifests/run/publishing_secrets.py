"""Keys of the trackers, of the judge, and of the hub that a model is pushed to, for the steps that speak to them.

Each is one key of a Secret under the name that its library reads, and optional: a Secret that is missing must not keep
a training from starting. The process says what it lacks.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from slipway_core.plan import Plan
from slipway_core.protocol.variables import JUDGE_KEY_VARIABLE, JUDGE_STEPS
from slipway_core.resources.stage import FIXED_STEPS
from slipway_operator.kube.manifest import Manifest
from slipway_operator.manifests.pod import environment
from slipway_operator.manifests.pod.credentials import HUB_KEY, HUB_TOKEN

WANDB: Final = ("WANDB_API_KEY",)
MLFLOW: Final = ("MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")


def of(plan: Plan, step: str) -> list[Manifest]:
    """Returns the variables of a step: those of the trackers in a stage and in publish, the hub's in publish alone, the
    judge's in prepare and evaluate alone."""
    if step == "publish":
        return [*_trackers(plan), *_hub(plan)]
    if step in JUDGE_STEPS:
        return [*_judge(plan)]
    return [] if step in FIXED_STEPS else [*_trackers(plan)]


def _trackers(plan: Plan) -> Iterator[Manifest]:
    if plan.tracking is None:
        return
    wandb, mlflow = plan.tracking.wandb, plan.tracking.mlflow
    if wandb is not None:
        yield from (_optional(key, wandb.credentials, key) for key in WANDB)
    if mlflow is not None and mlflow.credentials is not None:
        yield from (_optional(key, mlflow.credentials, key) for key in MLFLOW)


def _judge(plan: Plan) -> Iterator[Manifest]:
    judge = plan.evaluation.judge
    if judge is not None and judge.credentials is not None:
        yield _optional(JUDGE_KEY_VARIABLE, judge.credentials, JUDGE_KEY_VARIABLE)


def _hub(plan: Plan) -> Iterator[Manifest]:
    if plan.export.push is not None:
        yield _optional(HUB_TOKEN, plan.export.push.credentials, HUB_KEY)


def _optional(variable: str, secret: str, key: str) -> Manifest:
    return environment.from_secret(variable, secret, key, optional=True)
