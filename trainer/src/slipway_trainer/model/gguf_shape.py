"""Which models can be a GGUF file, and what llama.cpp has to know of their shape: told from config.json alone.

Source: `convert_hf_to_gguf.py` and `src/llama-model.cpp` of llama.cpp for what a file must say, and what is not read.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

from slipway_trainer.step.errors import BadConfig

ARCHITECTURES: Final = {"llama": "llama", "mistral": "llama", "qwen2": "qwen2"}
"""The name of a family in transformers, and in llama.cpp."""
_WITHOUT = "Leave export.gguf out"
_THETA = 10000.0
_LLAMA3 = ("factor", "low_freq_factor", "high_freq_factor")
"""What stretched rotary positions of Llama 3.1 and newer are told by."""


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
    rope_divisors: tuple[float, ...] | None
    """What each frequency of the rotary positions is divided by, half as many as a head has numbers; None where
    positions are not stretched."""


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
    head_size = int(config.get("head_dim") or hidden // heads)
    theta = float(_rope(config).get("rope_theta") or config.get("rope_theta") or _THETA)
    return Shape(
        architecture=ARCHITECTURES[family],
        permuted=ARCHITECTURES[family] == "llama",
        layers=int(config["num_hidden_layers"]),
        hidden=hidden,
        intermediate=int(config["intermediate_size"]),
        heads=heads,
        kv_heads=int(config.get("num_key_value_heads") or heads),
        head_size=head_size,
        context=_context(config),
        rope_theta=theta,
        norm_epsilon=float(config["rms_norm_eps"]),
        rope_divisors=_divisors(config, head_size, theta) if _scaling(config) == "llama3" else None,
    )


def _refuse_other_arithmetic(config: Mapping[str, Any]) -> None:
    activation = config.get("hidden_act", "silu")
    scaling = _scaling(config)
    # llama.cpp asks for no divisors in the graph of qwen2: it would leave them unread.
    divided = scaling == "llama3" and ARCHITECTURES[config["model_type"]] == "llama"
    partial = float(_rope(config).get("partial_rotary_factor") or config.get("partial_rotary_factor") or 1.0)
    told = {
        f"hidden_act {activation}": activation != "silu",
        f"rope scaling {scaling}": scaling != "default" and not divided,
        f"partial_rotary_factor {partial}": partial != 1.0,
        "attention_bias": bool(config.get("attention_bias")),
        "mlp_bias": bool(config.get("mlp_bias")),
        "quantised weights": config.get("quantization_config") is not None,
    }
    if found := [name for name, is_there in told.items() if is_there]:
        raise BadConfig(f"export.gguf: the model has {', '.join(found)}, which is not written as GGUF yet. {_WITHOUT}")


def _divisors(config: Mapping[str, Any], head_size: int, theta: float) -> tuple[float, ...]:
    """Returns what Llama 3.1 divides its frequencies by, the fastest first: those that turn at least `high_freq_factor`
    times within the context it was first trained on by 1, those that turn at most `low_freq_factor` times by `factor`,
    and in between what each keeps of its speed goes linearly from the one to the other.

    Raises BadConfig where one of these numbers is missing, or none that this can be computed with.
    """
    rope = _rope(config)
    told = [rope.get(name) for name in _LLAMA3]
    trained = rope.get("original_max_position_embeddings") or config["max_position_embeddings"]
    if any(not isinstance(one, int | float) or one <= 0 for one in (*told, trained)) or told[1] == told[2]:
        named = ", ".join(f"{name} {one}" for name, one in zip(_LLAMA3, told, strict=True))
        raise BadConfig(
            f"export.gguf: the model has rope scaling llama3 with {named}: all three must be above 0, and the last two "
            f"differ. Mend rope_parameters in its config.json. {_WITHOUT}"
        )
    factor, fewest, most = map(float, cast(list[float], told))
    found: list[float] = []
    for pair in range(head_size // 2):
        turns = float(trained) * theta ** (-2 * pair / head_size) / (2 * math.pi)
        share = min(1.0, max(0.0, (turns - fewest) / (most - fewest)))
        found.append(1 / (share + (1 - share) / factor))
    return tuple(found)


def _scaling(config: Mapping[str, Any]) -> str:
    return str(_rope(config).get("rope_type") or _rope(config).get("type") or "default")


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
