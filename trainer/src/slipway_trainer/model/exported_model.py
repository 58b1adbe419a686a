"""An exported model as it is loaded to be judged: from its folder alone, as a server would."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from slipway_core.protocol.artifact import RESTORE
from slipway_trainer.model.placement import Place
from slipway_trainer.step.errors import BadArtifact, BadModel, first_line
from slipway_trainer.tokens import tokenizer

VLLM_CPU_HEAD_SIZES = (32, 64, 80, 96, 112, 128, 160, 192, 224, 256, 512)
"""Source: `CPUAttentionBackend.get_supported_head_sizes` of vLLM 0.32."""


@dataclass(frozen=True)
class ExportedModel:
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    end_tokens: list[int]
    """Tokens that end an answer, sorted: those of generation_config.json, as in vLLM, and the tokenizer's EOS."""
    repetition_penalty: float = 1.0
    """Of generation_config.json: vLLM applies it to every answer, a greedy one too, unless the client sends another."""
    virtual_tokens: int = 0
    """That stand in front of every text, and take as many positions."""


def load(
    folder: Path,
    *,
    dtype: torch.dtype,
    device: torch.device | str = "cpu",
    trust_remote_code: bool = False,
    places: dict[str, Place] | None = None,
) -> ExportedModel:
    """Loads a folder whose digest was verified. The model is in evaluation mode.

    Args:
        places: the device of each part of a model that goes on several; all of it goes on `device` when None.

    Raises BadArtifact when it cannot be loaded, or when a weight is missing, left over, or of another shape.
    """
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            str(folder),
            dtype=dtype,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=trust_remote_code,
            output_loading_info=True,
            **({} if places is None else {"device_map": places}),
        )
        words = tokenizer.from_folder(folder, "artifact")
    except (OSError, ValueError, KeyError, RuntimeError, BadModel) as error:
        raise BadArtifact(f"{folder}: cannot be loaded: {first_line(error)}. {RESTORE}") from None
    model, report = loaded
    for what in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if names := sorted(map(str, report[what])):
            shown = ", ".join(names[:3])
            raise BadArtifact(f"{folder}: {len(names)} {what.replace('_', ' ')} among the weights, such as {shown}")
    ends, penalty = ends_and_penalty(model.generation_config, words)
    # What else a base model brings along (forced tokens, sampling) would seep into every generation, and vLLM does not
    # read it.
    model.generation_config = GenerationConfig()
    model = model if places is not None else model.to(device)
    return ExportedModel(model.eval(), words, ends, penalty)


def require_rows(model: PreTrainedModel, largest: int) -> None:
    """Raises BadArtifact when the model has no row for the largest id of what its tokenizer made of a text."""
    rows = model.get_input_embeddings().get_parameter("weight").shape[0]
    if largest >= rows:
        raise BadArtifact(
            f"the tokenizer writes the id {largest}, and the model has {rows} rows in its embedding. Export it again "
            "with the tokenizer that it was trained with"
        )


def ends_and_penalty(config: GenerationConfig | None, words: PreTrainedTokenizerBase) -> tuple[list[int], float]:
    """Returns the tokens that end an answer, sorted, and the repetition penalty."""
    return _end_tokens(config, words), float(getattr(config, "repetition_penalty", None) or 1.0)


def _end_tokens(config: GenerationConfig | None, words: PreTrainedTokenizerBase) -> list[int]:
    configured = getattr(config, "eos_token_id", None)
    tokens = configured if isinstance(configured, list) else [configured]
    return sorted({token for token in [*tokens, words.eos_token_id] if isinstance(token, int)})


def head_size_warning(config: object) -> str | None:
    """Returns why vLLM cannot serve the model on a CPU; None when it can, or when the model has no such size."""
    size = getattr(config, "head_dim", None)
    if size is None:
        hidden, heads = getattr(config, "hidden_size", None), getattr(config, "num_attention_heads", None)
        if not hidden or not heads:
            return None
        size = hidden // heads
    if size in VLLM_CPU_HEAD_SIZES:
        return None
    return (
        f"the head size (hiddenSize / heads) is {size}, and vLLM on a CPU serves "
        f"{', '.join(map(str, VLLM_CPU_HEAD_SIZES))} alone: this model can be served on a GPU only"
    )
