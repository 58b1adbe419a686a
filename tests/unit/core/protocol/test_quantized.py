"""Who can compute with quantised weights is known before it is tried."""

from __future__ import annotations

import pytest

from slipway_core.protocol.quantized import FORMATS, format_of, is_quantized, lacking

AVX512 = ("avx2", "avx512f", "avx512bw", "avx512vl", "avx512dq")


@pytest.mark.parametrize(
    ("method", "flags", "lacks"),
    [
        ("INT4", ("avx2", "avx_vnni"), "AVX-512"),
        ("INT4", AVX512[:-1], "AVX-512"),
        ("INT4", AVX512, None),
        ("INT8", ("avx2",), "VNNI"),
        ("INT8", AVX512, "VNNI"),
        ("INT8", ("avx2", "avx_vnni"), None),
        ("INT8", (*AVX512, "avx512_vnni"), None),
        ("FP8", ("avx2",), None),
        ("INT4", None, None),
        ("INT8", None, None),
        (None, (), None),
    ],
)
def test_what_a_processor_lacks_is_told(method: str | None, flags: tuple[str, ...] | None, lacks: str | None) -> None:
    found = lacking(FORMATS[method] if method else None, flags)
    assert found is None if lacks is None else str(found).startswith(lacks)


@pytest.mark.parametrize(
    ("config", "quantized", "layout"),
    [
        ({}, False, None),
        ({"quantization_config": None}, False, None),
        ({"quantization_config": {"quant_method": "gptq"}}, True, None),
        ({"quantization_config": {"format": "int-quantized"}}, True, "int-quantized"),
        ({"quantization_config": "odd"}, True, None),
    ],
)
def test_what_a_config_says_is_read_whatever_it_says(
    config: dict[str, object], quantized: bool, layout: str | None
) -> None:
    assert (is_quantized(config), format_of(config)) == (quantized, layout)
