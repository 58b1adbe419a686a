"""The runs of the cluster tests: as small as still shows the point."""

from __future__ import annotations

from typing import Any

Document = dict[str, Any]


def two_nodes(name: str = "pair", endpoint: str = "chat") -> Document:
    """A run whose training stages are two pods each; long enough to be killed in the middle."""
    return {
        "apiVersion": "slipway.dev/v1alpha1",
        "kind": "TrainingRun",
        "metadata": {"name": name},
        "spec": {
            "model": {
                "scratch": {
                    "layers": 2,
                    "hiddenSize": 64,
                    "heads": 2,
                    "maxLength": 256,
                    "tokenizer": {"train": {"vocabSize": 600}},
                }
            },
            "stages": [
                {
                    "name": "pretrain",
                    "data": {"train": [{"uri": "package://tang"}]},
                    "maxLength": 128,
                    "steps": 800,
                    "batch": {"sequences": 4},
                    "optimizer": {"learningRate": 3e-3},
                },
                {
                    "name": "sft",
                    "objective": "Chat",
                    "data": {"train": [{"uri": "package://tang-recite"}]},
                    "maxLength": 128,
                    "steps": 20,
                    "batch": {"sequences": 4},
                },
            ],
            "compute": {"nodes": 2},
            "checkpoints": {"everySteps": 50, "keep": 2},
            "evaluation": {
                "data": [{"uri": "package://tang-held-out"}],
                "gates": [{"metric": "bits_per_byte", "max": 8, "minTokens": 1000}],
            },
            "serving": {"endpoint": endpoint},
        },
    }


def one_stage(name: str, *, steps: int, uri: str = "package://tang") -> Document:
    """A run of one pod that is judged by no gate and serves nothing; `served_by` adds both."""
    return {
        "apiVersion": "slipway.dev/v1alpha1",
        "kind": "TrainingRun",
        "metadata": {"name": name},
        "spec": {
            "model": {
                "scratch": {
                    "layers": 2,
                    "hiddenSize": 64,
                    "heads": 2,
                    "maxLength": 256,
                    "tokenizer": {"train": {"vocabSize": 600}},
                }
            },
            "stages": [
                {
                    "name": "pretrain",
                    "data": {"train": [{"uri": uri}]},
                    "maxLength": 128,
                    "steps": steps,
                    "batch": {"sequences": 4},
                    "optimizer": {"learningRate": 3e-3},
                }
            ],
            "checkpoints": {"everySteps": 50, "keep": 1},
        },
    }


def served_by(endpoint: str, run: Document, **template: Any) -> Document:
    """Returns the run with a gate that it passes, promoted to an endpoint."""
    evaluation = {
        "data": [{"uri": "package://tang-held-out"}],
        "gates": [{"metric": "bits_per_byte", "max": 8, "minTokens": 1000}],
    }
    serving = {"endpoint": endpoint, "template": template}
    return {**run, "spec": {**run["spec"], "evaluation": evaluation, "serving": serving}}
