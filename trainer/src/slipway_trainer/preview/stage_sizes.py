"""The size that the model of a plan has in each stage, before any of its weights are there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from slipway_core.plan import Plan
from slipway_core.resources.model import Scratch
from slipway_trainer.model import scratch_shape
from slipway_trainer.training.model_shape import ModelSize


def of_plan(plan: Plan, base: Path | None, ids: int, words: Any = None) -> Iterator[ModelSize]:
    """Yields the size of each stage; of a new model without adapters without torch, whose import takes seconds.

    Args:
        base: folder of the base model; None when the plan makes a new one.
        ids: of the tokenizer of a new model.
        words: the run's tokenizer, where it is there.

    Raises BadModel or BadConfig when the model cannot be made.
    """
    if scratch_shape.is_told_by(plan):
        return _of_scratch(plan, ids)
    return (_with_vocabulary(plan, size, ids) if words is None else size for size in _of_blueprint(plan, base, words))


def _of_scratch(plan: Plan, ids: int) -> Iterator[ModelSize]:
    scratch = plan.model.scratch
    assert scratch is not None
    for _ in plan.stages:
        yield of_shape(scratch, scratch_shape.rounded(ids))


def of_shape(scratch: Scratch, vocabulary: int) -> ModelSize:
    """Returns the size of a new model of which all is trained."""
    weights = scratch_shape.parameters(scratch, vocabulary)
    return ModelSize(
        parameters=weights,
        trainable=weights,
        layers=scratch.layers,
        hidden=scratch.hidden_size,
        intermediate=scratch_shape.intermediate_size(scratch),
        vocabulary=vocabulary,
        heads=scratch.heads,
        queries=scratch.hidden_size,
        keys=scratch.hidden_size // scratch.heads * (scratch.kv_heads or scratch.heads),
        tied=scratch.tie_embeddings,
    )


def _of_blueprint(plan: Plan, base: Path | None, words: Any) -> Iterator[ModelSize]:
    from slipway_trainer.model import adapter_targets, adapters, blueprint, four_bits
    from slipway_trainer.training import model_size

    model: Any = blueprint.of_run(plan, base, words)
    for stage in plan.stages:
        if stage.adapter is None:
            yield model_size.of_model(model, stage)
            continue
        held = four_bits.weights(model, stage) if four_bits.held_by(stage) else 0
        adapted = adapters.add_adapter(model, stage, adapter_targets.resolve(model, stage))
        yield model_size.of_model(adapted, stage, four_bit_weights=held)
        if not stage.virtual_tokens:
            model = adapted.unload().requires_grad_(True)


def _with_vocabulary(plan: Plan, size: ModelSize, ids: int) -> ModelSize:
    """Returns the size of a new model that was made without a tokenizer as it is with one."""
    if plan.model.scratch is None:
        return size
    vocabulary = scratch_shape.rounded(ids)
    more = (vocabulary - size.vocabulary) * size.hidden * (1 if size.tied else 2)
    whole = size.trainable == size.parameters
    trainable = size.trainable + (more if whole else 0)
    return replace(size, vocabulary=vocabulary, parameters=size.parameters + more, trainable=trainable)
