"""What a model's config.json says of quantised weights, as far as it decides who can compute with them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final, cast

KEY: Final = "quantization_config"
"""In config.json."""
FORMATS: Final = {"INT8": "int-quantized", "FP8": "float-quantized", "INT4": "pack-quantized"}
"""How compressed-tensors calls what `export.quantization` writes."""
_VNNI: Final = frozenset({"avx512_vnni", "avx_vnni"})
_AVX512: Final = frozenset({"avx512f", "avx512bw", "avx512vl", "avx512dq"})


def is_quantized(config: Mapping[str, Any]) -> bool:
    return config.get(KEY) is not None


def format_of(config: Mapping[str, Any]) -> str | None:
    """Returns the format of a model's weights; None of one that is not quantised."""
    said = config.get(KEY)
    found = cast(dict[str, Any], said).get("format") if isinstance(said, dict) else None
    return found if isinstance(found, str) else None


def lacking(layout: str | None, flags: Collection[str] | None) -> str | None:
    """Returns what a processor lacks for vLLM to compute with weights of a format; None where nothing is known to lack.

    Args:
        layout: the format.
        flags: what the kernel says that an x86 processor has; None of another one.

    4 bits: `cpu_gemm_wna16`, which vLLM 0.32 has in its libraries `_C` and `_C_AVX512` and not in `_C_AVX2`: it loads
    the model, is ready, and dies of the first request. 8-bit integers: without VNNI oneDNN adds two products of 8 bits
    in 16, which overflow and are cut off, so that a layer is off by a third of its largest output and nothing says so;
    with weights of 7 bits it is exact (measured with vLLM 0.32 on a processor with AVX2 alone).
    """
    if flags is None:
        return None
    if layout == FORMATS["INT4"] and not set(flags) >= _AVX512:
        return "AVX-512, without which vLLM on a CPU cannot compute with weights of 4 bits (INT4)"
    if layout == FORMATS["INT8"] and not _VNNI & set(flags):
        return "VNNI, without which the sums of 8-bit integers (INT8) overflow in vLLM on a CPU"
    return None
