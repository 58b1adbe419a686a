"""The size that the model of a plan has in each stage, before any of its weights are there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from slipway_core.plan import Plan
from slipway_core.resources.stage import Stage
from slipway_trainer.model import dense_shape, scratch_shape
from slipway_trainer.model.dense_shape import DenseShape
from slipway_trainer.training.model_shape import ModelSize, kept_as


def are_told(plan: Plan, base: Path | None) -> bool:
    """Returns whether the plan and a configuration say them, so that nobody waits for torch.

    Args:
        base: folder of the base model; None when the plan makes a new one.

    Raises BadModel when the folder has no configuration that can be read.
    """
    return dense_shape.of_plan(plan, base) is not None and all(map(dense_shape.is_plain, plan.stages))


def of_plan(plan: Plan, base: Path | None, ids: int, words: Any = None) -> Iterator[ModelSize]:
    """Yields the size of each stage; without torch, whose import takes seconds, where it can be told without.

    Args:
        base: folder of the base model; None when the plan makes a new one.
        ids: of the tokenizer of a new model.
        words: the run's tokenizer, where it is there.

    Raises BadModel or BadConfig when the model cannot be made.
    """
    shape = dense_shape.of_plan(plan, base)
    if shape is not None and are_told(plan, base):
        if base is None:
            shape = replace(shape, vocabulary=scratch_shape.rounded(ids))
        return (of_stage(shape, stage) for stage in plan.stages)
    return (_with_vocabulary(plan, size, ids) if words is None else size for size in _of_blueprint(plan, base, words))


def of_shape(shape: DenseShape) -> ModelSize:
    """Returns the size of a model of which all is trained."""
    return ModelSize(
        parameters=shape.parameters,
        trainable=shape.parameters,
        layers=shape.layers,
        hidden=shape.hidden,
        intermediate=shape.intermediate,
        vocabulary=shape.vocabulary,
        heads=shape.heads,
        queries=shape.queries,
        keys=shape.keys,
        head_norms=shape.head_norms,
        tied=shape.tied,
    )


def of_stage(shape: DenseShape, stage: Stage) -> ModelSize:
    """Returns the size of a model as a stage trains it that `dense_shape.is_plain` is true of.

    LoRA (Hu et al. 2021) has two matrices of its rank a layer, and DoRA (Liu et al. 2024) the length of each output
    beside them.
    """
    whole, adapter = of_shape(shape), stage.adapter
    if adapter is None:
        return whole
    asked = shape.linear if adapter.target_modules == "Auto" else set(adapter.target_modules.split(","))
    layers = {name: sizes for name, sizes in shape.linear.items() if name in asked}
    inputs, outputs = (sum(sizes[n] for sizes in layers.values()) for n in (0, 1))
    lengths = outputs if adapter.method == "DoRA" else 0
    trained = shape.layers * (adapter.rank * (inputs + outputs) + lengths)
    return replace(
        whole,
        parameters=whole.parameters + trained,
        trainable=trained,
        adapted=shape.layers * len(layers),
        rank=adapter.rank,
        adapted_outputs=shape.layers * outputs,
        # Layers with the same input keep it once.
        kept_inputs=shape.layers * sum({kept_as(name): sizes[0] for name, sizes in layers.items()}.values()),
        dropped_inputs=shape.layers * ((inputs if adapter.dropout else 0) + 2 * lengths),
        trains_output=False,
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
