"""Runs and plans for the tests of core: the smallest resource that shows the point."""

from __future__ import annotations

from typing import Any

from slipway_core import plan as plans
from slipway_core.plan import Plan
from slipway_core.resources.training_run import TrainingRun

DIGEST = "sha256:" + "a" * 64
OTHER_DIGEST = "sha256:" + "b" * 64


def a_run(
    *, serving: bool | dict[str, Any] = True, gates: list[dict[str, Any]] | None = None, **spec: Any
) -> TrainingRun:
    """A run with one stage `learn`, one absolute gate, and an endpoint `chat`."""
    gates = [{"metric": "perplexity", "max": 20, "minTokens": 100}] if gates is None else gates
    document = {
        "apiVersion": "slipway.dev/v1alpha1",
        "kind": "TrainingRun",
        "metadata": {
            "name": "demo",
            "uid": "0b5e1a52-7f0e-4f6e-9d56-0b6a1c7f3c11",
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "generation": 1,
            "annotations": spec.pop("annotations", {}),
        },
        "spec": {
            "model": {"scratch": {"tokenizer": {"train": {"vocabSize": 512}}}},
            "stages": [{"name": "learn", "data": {"train": [{"uri": "file://train.jsonl"}]}}],
            "evaluation": {"data": [{"uri": "file://heldout.jsonl"}], "gates": gates, **spec.pop("evaluation", {})},
            **({"serving": {"endpoint": "chat"} if serving is True else serving} if serving else {}),
            **spec,
        },
    }
    return TrainingRun.model_validate(document, by_alias=True, by_name=False)


def a_plan(run: TrainingRun, version: plans.Version = plans.NEWEST) -> Plan:
    return plans.resolve(run, plans.ExecutorDefaults(folder="/data"), version=version)
