"""Adapters on a model: how one is made."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import PreTrainedModel

from slipway_core.resources.stage import Stage
from slipway_trainer.model import adapter_targets, fused_experts, prompt_adapters, whole_layers
from slipway_trainer.model.layer_names import is_called
from slipway_trainer.step.errors import BadConfig, first_line

if TYPE_CHECKING:
    from peft import PeftModel


def add_adapter(model: PreTrainedModel, stage: Stage, targets: list[str]) -> PeftModel:
    """Returns the model with the new LoRA (Hu et al. 2021) or DoRA (Liu et al. 2024) adapter of a stage, and with the
    layers that it trains whole, or with virtual tokens before it; the rest is frozen.

    Raises BadConfig when peft cannot make it.
    """
    from peft import LoraConfig, get_peft_model

    adapter = stage.adapter
    assert adapter is not None
    if adapter.before_text:
        return prompt_adapters.add(model, stage)
    torch.manual_seed(stage.seed)
    whole = whole_layers.resolve(model, stage)
    experts = [] if adapter_targets.without_experts(stage) else fused_experts.called(model, targets)
    layers = [target for target in targets if any(is_called(name, target) for name, _ in model.named_modules())]
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=adapter.rank,
        lora_alpha=adapter.alpha,  # type: ignore[arg-type]
        lora_dropout=adapter.dropout,
        use_rslora=adapter.rank_stabilized,
        target_modules=layers,
        target_parameters=experts or None,
        modules_to_save=whole or None,
        # A tied pair is trained as one weight, and stays one when it is merged.
        ensure_weight_tying=bool(whole) and whole_layers.tied(model),
        use_dora=adapter.method == "DoRA",
    )
    try:
        with warnings.catch_warnings(), _names_as_given():
            # GPT-2 keeps its matrices the other way round; peft finds out, and says that it did.
            warnings.filterwarnings("ignore", message="fan_in_fan_out")
            wrapped = get_peft_model(model, config)
    except (ValueError, TypeError, NotImplementedError) as error:
        raise BadConfig(
            f"stages[{stage.name}].adapter: {adapter.method} cannot go on {', '.join(targets)}: {first_line(error)}"
        ) from None
    return wrapped  # type: ignore[return-value]


def load_adapter(model: PreTrainedModel, folder: Path) -> PeftModel:
    """Returns a model with the adapter that lies in a folder, for inference or to be merged."""
    from peft import PeftModel

    with _names_as_given():
        return prompt_adapters.hide_virtual_tokens(PeftModel.from_pretrained(model, str(folder)))


def targets_of(model: PeftModel) -> list[str]:
    """Returns what a model has its adapter on, as `adapter_targets.resolve` writes it."""
    config: Any = model.peft_config["default"]
    if config.is_prompt_learning:
        return []
    experts = {fused_experts.short(name) for name in config.target_parameters or ()}
    return sorted([*config.target_modules, *experts])


@contextmanager
def _names_as_given() -> Iterator[None]:
    """Has peft take names for what they are. Of some mixtures it takes gate_proj and up_proj for experts as
    transformers 4 had them, and leaves the linear layers that are called so (dense layers, shared experts) without an
    adapter."""
    from peft.utils import transformers_weight_conversion as conversion

    converting = conversion.convert_peft_config_for_transformers
    conversion.convert_peft_config_for_transformers = lambda *_, **__: None
    try:
        yield
    finally:
        conversion.convert_peft_config_for_transformers = converting
