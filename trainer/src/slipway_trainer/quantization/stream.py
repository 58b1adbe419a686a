"""A safetensors file written one tensor at a time, from shapes that are known before: never more than one in memory.

The library's own writer takes all tensors of a file at once. Source: the format's description in safetensors' README.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch

DTYPES: Final[dict[str, torch.dtype]] = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
"""Names of the format."""
_NAMES: Final = {dtype: name for name, dtype in DTYPES.items()}
_ALIGNED: Final = 8
"""Bytes of which the header is a multiple, so that a mapped file has its numbers where a processor wants them."""


@dataclass(frozen=True)
class Layout:
    dtype: torch.dtype
    shape: tuple[int, ...]

    @property
    def bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def write(path: Path, layouts: Mapping[str, Layout], tensors: Iterator[tuple[str, torch.Tensor]]) -> None:
    """Writes a file.

    Args:
        layouts: of every tensor, in the order in which they come; large types first, so that all are aligned.
        tensors: each name and its tensor, in that order.

    Raises ValueError when what comes is not what was announced.
    """
    header, place = {"__metadata__": {"format": "pt"}}, 0
    for name, layout in layouts.items():
        header[name] = {  # pyright: ignore[reportArgumentType]
            "dtype": _NAMES[layout.dtype],
            "shape": list(layout.shape),
            "data_offsets": [place, place + layout.bytes],
        }
        place += layout.bytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNED)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for (expected, layout), (name, tensor) in zip(layouts.items(), tensors, strict=True):
            if (name, tensor.dtype, tuple(tensor.shape)) != (expected, layout.dtype, layout.shape):
                raise ValueError(f"{name} {tensor.dtype} {list(tensor.shape)} came, and {expected} {layout} was due")
            file.write(tensor.contiguous().view(-1).view(torch.uint8).numpy().data)
