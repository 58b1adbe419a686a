"""What can be refused before a byte of data is read: what a stage asks for and the model has not, told from the plan
and the files of the base model alone, without its weights.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from importlib.util import find_spec
from pathlib import Path

from slipway_core.plan import Plan
from slipway_core.protocol import artifact, quantized
from slipway_core.protocol.variables import PLAN_DIGEST_VARIABLE
from slipway_core.resources.stage import Stage
from slipway_fetching import conversion
from slipway_host import processor
from slipway_trainer.harness import process
from slipway_trainer.judge import inquiry
from slipway_trainer.model import config_file, context_length, dense_shape
from slipway_trainer.model.context_length import ContextLength
from slipway_trainer.step import packages
from slipway_trainer.step.errors import BadConfig, BadModel
from slipway_trainer.step.progress import Say

_READ_BY = {"compressed-tensors": "compressed_tensors", "bitsandbytes": "bitsandbytes"}
"""Package by the quantisation whose weights it reads."""
_VECTORS = ("Prefix", "PromptTuning")
"""Adapters that are vectors alone, a table of them; PTuning has an encoder of matrices."""


def check_others(plan: Plan, key: str | None) -> list[str]:
    """Returns what may be amiss with what is asked beside the model and the data, before either is fetched.

    Args:
        key: the judge's.

    Raises BadConfig where the package that asks the tasks is not installed, or the judge's server refuses the key.
    """
    if plan.evaluation.tasks:
        process.require()
    judge = plan.evaluation.judge
    amiss = None if judge is None else inquiry.warning(judge, key)
    return [] if amiss is None else [amiss]


def check(plan: Plan, base: Path | None, say: Say) -> None:
    """Raises BadConfig that names the field of the plan, or BadModel.

    Args:
        base: folder of the base model; None when the plan makes a new one.
        say: told what an adapter leaves out.
    """
    if base is not None:
        _refuse_pickles(base)
        if plan.stages:
            _refuse_quantized(plan, base)
        else:
            _check_as_it_is(plan, base)
    if plan.export.gguf != "None":
        _check_gguf(plan, base)
    _check_quantization(plan, base)
    if plan.evaluation.engine == "vLLM":
        packages.require("vllm", by="evaluation.engine: vLLM", instead="Auto")
    most = longest(plan, base)
    for index, stage in enumerate(plan.stages):
        field = f"stages[{index}] ({stage.name})"
        context_length.check(stage, most)
        _check_measured(stage, field)
        if stage.optimizer.name == "AdamW8bit":
            packages.require("bitsandbytes", by=f"{field}: optimizer.name: AdamW8bit", instead="AdamW")
        _check_matrices(stage, field)
    _check_adapters(plan, base, say)


def longest(plan: Plan, base: Path | None) -> ContextLength | None:
    """Returns how many tokens the model takes; None when nothing says it. Raises BadModel."""
    if plan.model.scratch is not None:
        return ContextLength(plan.model.scratch.max_length, "model.scratch.maxLength")
    assert base is not None
    return context_length.of_folder(base)


def _refuse_pickles(base: Path) -> None:
    pickles = sorted(path.name for path in base.iterdir() if path.suffix in artifact.PICKLE_SUFFIXES)
    if pickles and not any(base.glob("*.safetensors")):
        raise BadModel(
            f"model.from: {base}: holds no *.safetensors but {pickles[0]}, which can run code when it is loaded. If "
            f"you trust it, convert it ({conversion.command(str(base))}), and name the folder that this makes"
        )


def _refuse_quantized(plan: Plan, base: Path) -> None:
    found = config_file.read(base).get(quantized.KEY)
    if found is None:
        return
    how = found.get("quant_method", "an unnamed method") if isinstance(found, dict) else found
    adapted = next((stage.name for stage in plan.stages if stage.adapter is not None), None)
    raise BadModel(
        f"model.from: {base}: its weights are quantised already ({how}; quantization_config in its config.json), and "
        + (f"the adapter of stages[{adapted}] cannot be merged into such" if adapted else "such cannot be trained")
        + ". Take the model that it was made of; adapter.method: QLoRA holds that in 4 bits while it trains"
    )


def _check_as_it_is(plan: Plan, base: Path) -> None:
    """Raises BadModel for a model that cannot be judged without training: export would find out after the data."""
    config_file.read(base)
    if (base / "adapter_config.json").is_file():
        raise BadModel(
            f"model.from: {base}: has an adapter (adapter_config.json) beside its model, and stages: [] judges one "
            "plain model. Merge it, or export it with export.mergeAdapter: true, and name what that makes"
        )
    _refuse_unreadable(base)
    # They load torch, which other runs do not need here.
    from slipway_trainer.model import blueprint, copied_model

    copied_model.dtype_of(copied_model.source(plan, base))
    blueprint.of_run(plan, base)


def _refuse_unreadable(base: Path) -> None:
    """Raises BadModel for quantised weights that cannot be judged here: nobody would know before the evaluation."""
    found = config_file.read(base).get(quantized.KEY)
    if found is None:
        return
    how = str(found.get("quant_method", "an unnamed method") if isinstance(found, dict) else found)
    package = _READ_BY.get(how)
    if package is None or find_spec(package) is None:
        raise BadModel(
            f"model.from: {base}: its weights are quantised ({how}; quantization_config in its config.json), and what "
            f"reads such is not here: {', '.join(sorted(_READ_BY))} are read where their packages are installed. Take "
            "the model that it was made of"
        )


def _check_gguf(plan: Plan, base: Path | None) -> None:
    """Of a base model alone: every new model can be written."""
    packages.require("gguf", by=f"export.gguf: {plan.export.gguf}", instead="None")
    if base is not None:
        from slipway_trainer.model import blueprint, gguf_shape

        gguf_shape.of_config(blueprint.of_run(plan, base).config.to_dict())


def _check_quantization(plan: Plan, base: Path | None) -> None:
    """Of new models too: what the format does not take would only be found when all stages have been trained."""
    wanted = plan.export.quantization
    if wanted == "None":
        return
    packages.require("compressed_tensors", by=f"export.quantization: {wanted}", instead="None")
    _require_kernels_here(plan, processor.flags())
    from slipway_trainer.model import blueprint, quantized_layers

    quantized_layers.of_model(blueprint.of_run(plan, base), wanted)


def _require_kernels_here(plan: Plan, flags: Collection[str] | None) -> None:
    """Of a run on this machine alone: on a cluster other nodes serve than train."""
    wanted = plan.export.quantization
    lacks = quantized.lacking(quantized.FORMATS.get(wanted), flags)
    if lacks is None or plan.serving is None or PLAN_DIGEST_VARIABLE in os.environ:
        return
    import torch

    if not torch.cuda.is_available():
        raise BadConfig(
            f"export.quantization: {wanted}: this machine, which would serve the model, has not {lacks}. Use FP8, or "
            "leave serving out"
        )


def _check_measured(stage: Stage, field: str) -> None:
    validation = stage.data.validation
    measured = validation is not None and (validation.data or validation.fraction)
    if not measured and (stage.select == "Best" or stage.early_stop is not None):
        raise BadConfig(f"{field}: select: Best and earlyStop need validation data, and its fraction is 0")


def _check_matrices(stage: Stage, field: str) -> None:
    """Else all of the stage would go by AdamW, under another optimizer's name."""
    if stage.optimizer.name == "Muon" and stage.adapter is not None and stage.adapter.method in _VECTORS:
        raise BadConfig(
            f"{field}: optimizer.name: Muon is for matrices, and {stage.adapter.method} trains none: use AdamW, or an "
            "adapter on layers"
        )


def _check_adapters(plan: Plan, base: Path | None, say: Say) -> None:
    """Makes every adapter on a model without weights: what cannot be made would only be found when the stages before
    have been trained."""
    adapted = [stage for stage in plan.stages if stage.adapter is not None]
    if dense_shape.of_plan(plan, base) is not None:
        # Nothing is asked of torch that is known to go: its import takes seconds.
        adapted = [stage for stage in adapted if not dense_shape.is_plain(stage)]
    if not adapted:
        return
    from slipway_trainer.model import adapter_targets, adapters, blueprint, four_bits

    model = blueprint.of_run(plan, base)
    for stage in adapted:
        if four_bits.held_by(stage):
            four_bits.check(model, stage)
            if whole := four_bits.left_out(model):
                say(f"stages[{stage.name}].adapter.method: QLoRA: {whole}")
        if left_out := adapter_targets.left_out(model, stage):
            say(f"stages[{stage.name}].adapter: {left_out}")
        adapted = adapters.add_adapter(model, stage, adapter_targets.resolve(model, stage))
        if not stage.virtual_tokens:
            model = adapted.unload()
