"""The model of a run without its weights: its layers, as every stage will find them, at no cost of memory."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from slipway_core.plan import Plan
from slipway_trainer.model import config_file
from slipway_trainer.model.new_model import scratch_config
from slipway_trainer.step.errors import BadModel, first_line


def of_run(plan: Plan, base: Path | None, words: PreTrainedTokenizerBase | None = None) -> PreTrainedModel:
    """Returns the model on torch's device without memory.

    Args:
        base: folder of the base model; None when the plan makes a new one.
        words: the run's tokenizer; a new model has no vocabulary as long as it is not made.

    Raises BadModel when the folder describes no model that can be made.
    """
    trust = plan.model.trust_remote_code
    if base is not None:
        check_code(base, trust_remote_code=trust)
    try:
        if base is None:
            assert plan.model.scratch is not None
            config = scratch_config(plan.model.scratch, words)
        else:
            config = AutoConfig.from_pretrained(str(base), trust_remote_code=trust, local_files_only=True)
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(config, trust_remote_code=trust)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise BadModel(f"model.from: {base}: cannot be loaded: {first_line(error)}") from None


def check_code(folder: Path, *, trust_remote_code: bool) -> None:
    """Raises BadModel when a model has no config.json that can be read, or one with code that was not asked for."""
    if "auto_map" in config_file.read(folder) and not trust_remote_code:
        raise BadModel(
            f"model.from: {folder}: comes with code of its own. Set model.trustRemoteCode: true if you trust it"
        )
