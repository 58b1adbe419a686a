"""Which models can be a GGUF file, and what llama.cpp has to know of their shape: told from config.json alone.

Source: `convert_hf_to_gguf.py` and `src/llama-model.cpp` of llama.cpp for what a file must say, and what is not read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

from slipway_trainer.step.errors import BadConfig

ARCHITECTURES: Final = {"llama": "llama", "mistral": "llama", "qwen2": "qwen2"}
"""The name of a family in transformers, and in llama.cpp."""
_WITHOUT = "Leave export.gguf out"
_THETA = 10000.0


@dataclass(frozen=True)
class Shape:
    architecture: str
    """As llama.cpp has it."""
    permuted: bool
    """Whether llama.cpp rotates neighbours in a head, and not its halves: rows of q and k then change places."""
    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_size: int
    context: int
    """Tokens. A window that is smaller ends it: llama.cpp computes these families without one."""
    rope_theta: float
    norm_epsilon: float


def of_config(config: Mapping[str, Any]) -> Shape:
    """Returns the shape of a model.

    Args:
        config: its config.json, with what was left out filled in.

    Raises BadConfig for what llama.cpp would compute another way.
    """
    family = config.get("model_type")
    if family not in ARCHITECTURES:
        raise BadConfig(
            f"export.gguf: the model is a {family}, and {', '.join(ARCHITECTURES)} can be written as GGUF. {_WITHOUT}"
        )
    _refuse_other_arithmetic(config)
    heads, hidden = int(config["num_attention_heads"]), int(config["hidden_size"])
    return Shape(
        architecture=ARCHITECTURES[family],
        permuted=ARCHITECTURES[family] == "llama",
        layers=int(config["num_hidden_layers"]),
        hidden=hidden,
        intermediate=int(config["intermediate_size"]),
        heads=heads,
        kv_heads=int(config.get("num_key_value_heads") or heads),
        head_size=int(config.get("head_dim") or hidden // heads),
        context=_context(config),
        rope_theta=float(_rope(config).get("rope_theta") or config.get("rope_theta") or _THETA),
        norm_epsilon=float(config["rms_norm_eps"]),
    )


def _refuse_other_arithmetic(config: Mapping[str, Any]) -> None:
    activation = config.get("hidden_act", "silu")
    rope = _rope(config)
    scaling = rope.get("rope_type") or rope.get("type") or "default"
    partial = float(rope.get("partial_rotary_factor") or config.get("partial_rotary_factor") or 1.0)
    told = {
        f"hidden_act {activation}": activation != "silu",
        f"rope scaling {scaling}": scaling != "default",
        f"partial_rotary_factor {partial}": partial != 1.0,
        "attention_bias": bool(config.get("attention_bias")),
        "mlp_bias": bool(config.get("mlp_bias")),
        "quantised weights": config.get("quantization_config") is not None,
    }
    if found := [name for name, is_there in told.items() if is_there]:
        raise BadConfig(f"export.gguf: the model has {', '.join(found)}, which is not written as GGUF yet. {_WITHOUT}")


def _rope(config: Mapping[str, Any]) -> Mapping[str, Any]:
    for name in ("rope_parameters", "rope_scaling"):
        if isinstance(found := config.get(name), dict):
            return cast(dict[str, Any], found)
    return {}


def _context(config: Mapping[str, Any]) -> int:
    longest = int(config["max_position_embeddings"])
    window = config.get("sliding_window")
    used = config.get("use_sliding_window", config.get("model_type") == "mistral")
    return min(longest, int(window)) if used and window else longest
