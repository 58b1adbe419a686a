"""Adapters on a model: which layers get one, and how it is made."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn
from transformers import PreTrainedModel

from slipway_core.resources.stage import Adapter, Stage
from slipway_trainer.step.errors import BadConfig

if TYPE_CHECKING:
    from peft import PeftModel


def linear_layers(model: nn.Module) -> dict[str, nn.Linear]:
    """Returns the linear layers but the output one, by their full name."""
    output = getattr(model, "get_output_embeddings", lambda: None)()
    return {
        name: module for name, module in model.named_modules() if isinstance(module, nn.Linear) and module is not output
    }


def resolve_targets(model: nn.Module, stage: Stage) -> list[str]:
    """Returns the last parts of the names of the modules that get an adapter, sorted.

    Raises BadConfig when a name that the stage gives matches nothing, and says which names there are.
    """
    layers = linear_layers(model)
    there = sorted({name.rsplit(".", 1)[-1] for name in layers})
    if stage.adapter is None:
        return []
    if stage.adapter.target_modules == "Auto":
        return there
    wanted = stage.adapter.target_modules.split(",")
    missing = [w for w in wanted if not any(name == w or name.endswith(f".{w}") for name in layers)]
    if missing:
        raise BadConfig(
            f"stages[{stage.name}].adapter.targetModules: nothing in the model is called {', '.join(missing)}. "
            f"Its linear layers are called {', '.join(there) or '(it has none)'}; Auto takes all of them"
        )
    return sorted(set(wanted))


def add_adapter(model: PreTrainedModel, adapter: Adapter, targets: list[str], *, seed: int) -> PeftModel:
    """Returns the model with a new LoRA (Hu et al. 2021) or DoRA (Liu et al. 2024) adapter; the rest is frozen."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(seed)
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=adapter.rank,
        lora_alpha=adapter.alpha,  # type: ignore[arg-type]
        lora_dropout=adapter.dropout,
        target_modules=targets,
        use_dora=adapter.method == "DoRA",
    )
    wrapped = get_peft_model(model, config)
    return wrapped  # type: ignore[return-value]
