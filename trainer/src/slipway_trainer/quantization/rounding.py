"""One matrix in 8 or 4 bits, by rounding to the nearest: w ≈ q · s.

The scale s of a row (or in INT4 of 32 weights of a row) is its largest magnitude over the largest q, rounded to the
type of the model before q is made by it, so that q is nearest by the scale that is stored.
"""

from __future__ import annotations

from typing import Final

import torch

from slipway_trainer.model.quantized_layers import GROUP, Quantization
from slipway_trainer.step.errors import BadExport

LARGEST: Final[dict[Quantization, float]] = {"INT8": 127.0, "FP8": 448.0, "INT4": 7.0}
"""Largest q. The integers are symmetric: -128 and -8 are not used. Source of 448: the type float8_e4m3fn."""
_REACH: Final[dict[Quantization, float]] = {"INT8": 127.5, "FP8": 464.0, "INT4": 7.5}
"""What is still rounded to the largest q, and not cut to it."""
_PACKED: Final = 8
"""4-bit numbers in one of 32 bits."""


def quantize(name: str, weight: torch.Tensor, wanted: Quantization) -> dict[str, torch.Tensor]:
    """Returns what is stored for a linear layer's weight, by the names that the layer's files have for it.

    Args:
        name: of the layer, for errors.
        weight: [outputs, inputs] in float32, bfloat16 or float16.

    INT8 and FP8: `weight` int8 or float8_e4m3fn [outputs, inputs], `weight_scale` [outputs, 1] in the type of the
    weight. INT4: `weight_packed` int32 [outputs, inputs / 8], of which the first weight is in the lowest bits, each 8
    above what it is; `weight_scale` [outputs, inputs / 32]; `weight_shape` int64 [2].

    Raises BadExport for a weight that is not finite: rounded, it would be a number.
    """
    if not bool(torch.isfinite(weight).all()):
        raise BadExport(
            f"export.quantization: {wanted}: {name}.weight holds NaN or infinity, which is no number in {wanted}: the "
            "training diverged. Train it again with a lower learning rate"
        )
    groups = weight.float().unflatten(-1, (-1, GROUP if wanted == "INT4" else weight.shape[-1]))
    scale = _scales(groups, wanted, weight.dtype)
    whole = (groups / scale.float().unsqueeze(-1)).flatten(-2)
    if wanted == "FP8":
        most = LARGEST[wanted]
        return {"weight": whole.clamp(-most, most).to(torch.float8_e4m3fn), "weight_scale": scale}
    most = int(LARGEST[wanted])
    rounded = whole.round().clamp(-most, most).to(torch.int8)
    if wanted == "INT8":
        return {"weight": rounded, "weight_scale": scale}
    return {"weight_packed": _pack(rounded), "weight_scale": scale, "weight_shape": torch.tensor(weight.shape)}


def spacing(dtype: torch.dtype) -> float:
    """Returns the smallest number above 0 that a type has, which is the distance of its smallest numbers."""
    kind = torch.finfo(dtype)
    return kind.smallest_normal * kind.eps


def _scales(groups: torch.Tensor, wanted: Quantization, dtype: torch.dtype) -> torch.Tensor:
    """Takes float32 [outputs, groups, size] and returns [outputs, groups]. Of zeros, whatever is not zero will do.

    Of a small row float16 has no number near the scale, or only 0. Rounded up it costs a little of the row's numbers,
    and rounded down its largest weights.
    """
    largest = groups.abs().amax(-1)
    scale = (largest / LARGEST[wanted]).to(dtype)
    too_small = scale.float() * _REACH[wanted] < largest
    scale = torch.where(too_small, (scale.float() + spacing(dtype)).to(dtype), scale)
    return torch.where(scale == 0, torch.ones_like(scale), scale)


def _pack(rounded: torch.Tensor) -> torch.Tensor:
    """Takes int8 [outputs, inputs] of -8 to 7 and returns int32 [outputs, inputs / 8]."""
    eights = (rounded.to(torch.int32) + 8).unflatten(-1, (-1, _PACKED))
    shifts = torch.arange(_PACKED, dtype=torch.int32) * 4
    # No two have a bit in common, so that their sum is their union; the topmost one makes it negative.
    return (eights << shifts).sum(-1, dtype=torch.int32)
