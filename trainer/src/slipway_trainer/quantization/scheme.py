"""What each quantisation is in the compressed-tensors format: what config.json says of it, and what a layer's files
hold.

Source: compressed-tensors 0.17, `quantization/quant_scheme.py` and `config/format.py`; the library itself reads every
one of them in the tests.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from slipway_core.protocol.quantized import FORMATS
from slipway_trainer.model.quantized_layers import GROUP, Quantization

LIBRARY: Final = "0.17.0"
"""Release of compressed-tensors that reads it here, in transformers and in vLLM."""


@dataclass(frozen=True)
class Scheme:
    format: str
    """How compressed-tensors calls the layout of the files."""
    weights: dict[str, Any]
    inputs: dict[str, Any] | None
    """How what goes into a layer is rounded, token by token, while it computes; None where it stays as it is."""


def _numbers(bits: int, kind: str, strategy: str, **more: Any) -> dict[str, Any]:
    return {"num_bits": bits, "type": kind, "symmetric": True, "strategy": strategy, "dynamic": False, **more}


SCHEMES: Final[dict[Quantization, Scheme]] = {
    "INT8": Scheme(FORMATS["INT8"], _numbers(8, "int", "channel"), _numbers(8, "int", "token", dynamic=True)),
    "FP8": Scheme(FORMATS["FP8"], _numbers(8, "float", "channel"), _numbers(8, "float", "token", dynamic=True)),
    "INT4": Scheme(FORMATS["INT4"], _numbers(4, "int", "group", group_size=GROUP), None),
}


def config(wanted: Quantization, left_as_is: Sequence[str]) -> dict[str, Any]:
    """Returns the `quantization_config` of config.json.

    Args:
        left_as_is: names of linear layers that are not quantised.
    """
    scheme = SCHEMES[wanted]
    group = {
        "targets": ["Linear"],
        "weights": scheme.weights,
        "input_activations": scheme.inputs,
        "output_activations": None,
        "format": scheme.format,
    }
    return {
        "quant_method": "compressed-tensors",
        "version": LIBRARY,
        "format": scheme.format,
        "quantization_status": "compressed",
        "config_groups": {"group_0": group},
        "ignore": list(left_as_is),
        "kv_cache_scheme": None,
        "global_compression_ratio": None,
    }
