"""The weights of a folder, one at a time, by their names and in the layout that llama.cpp has."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import torch
from gguf import GGMLQuantizationType
from gguf.quants import quant_shape_to_byte_shape, quantize
from safetensors import safe_open

from slipway_trainer.model.gguf_shape import Shape
from slipway_trainer.step.errors import BadConfig, BadExport

Format = Literal["F16", "Q8_0"]
_BLOCK: Final = 32
"""Weights of a row that share a scale in Q8_0."""
_OUTER: Final = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
}
_OF_LAYER: Final = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


@dataclass(frozen=True)
class Tensor:
    file: Path
    stored: str
    """Its name there."""
    name: str
    """In llama.cpp."""
    shape: tuple[int, ...]
    type: GGMLQuantizationType

    @property
    def byte_shape(self) -> tuple[int, ...]:
        """Shape in bytes of what is quantised, in values of what is not."""
        quantised = self.type is GGMLQuantizationType.Q8_0
        return quant_shape_to_byte_shape(self.shape, self.type) if quantised else self.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        kinds = {GGMLQuantizationType.F32: np.float32, GGMLQuantizationType.F16: np.float16}
        return np.dtype(kinds.get(self.type, np.uint8))

    @property
    def bytes(self) -> int:
        return int(np.prod(self.byte_shape)) * self.dtype.itemsize


def of_folder(folder: Path, wanted: Format) -> list[Tensor]:
    """Returns what is to be written, without reading a weight. Matrices get the format, all else float32; a matrix
    whose rows are no multiple of 32 stays F16, as llama.cpp leaves it.

    Raises BadExport for a weight that has no name in llama.cpp.
    """
    found: list[Tensor] = []
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(str(file), "pt") as opened:
            for stored in sorted(opened.keys()):
                shape = tuple(opened.get_slice(stored).get_shape())
                found.append(Tensor(file, stored, _named(stored), shape, _type(shape, wanted)))
    return found


def read(tensor: Tensor, shape: Shape) -> np.ndarray[Any, Any]:
    """Returns a weight as it is written. Raises BadConfig for one that is too large for a half-precision float."""
    with safe_open(str(tensor.file), "pt") as opened:
        values = opened.get_tensor(tensor.stored).to(torch.float32)
    if shape.permuted and ".attn_q." in tensor.name:
        values = _neighbours(values, shape.heads)
    elif shape.permuted and ".attn_k." in tensor.name:
        values = _neighbours(values, shape.kv_heads)
    if tensor.type is not GGMLQuantizationType.F32 and not _fits(values, tensor.type):
        raise BadConfig(
            f"export.gguf: {tensor.stored} holds {float(values.abs().max()):.3g}, which is no number in "
            f"{tensor.type.name}: the largest there is 65504, and infinity and NaN are none. Leave export.gguf out"
        )
    return quantize(values.contiguous().numpy(), tensor.type)


def _fits(values: torch.Tensor, type_: GGMLQuantizationType) -> bool:
    # A block of Q8_0 has a scale in half precision, which is a 127th of its largest weight.
    most = torch.finfo(torch.float16).max * (127 if type_ is GGMLQuantizationType.Q8_0 else 1)
    return bool(torch.isfinite(values).all()) and float(values.abs().max()) <= most


def _neighbours(values: torch.Tensor, heads: int) -> torch.Tensor:
    """Puts what is rotated together side by side: transformers has the first numbers of all pairs of a head, then the
    second ones."""
    return values.reshape(heads, 2, -1, *values.shape[1:]).transpose(1, 2).reshape(values.shape)


def _type(shape: tuple[int, ...], wanted: Format) -> GGMLQuantizationType:
    if len(shape) != 2:
        return GGMLQuantizationType.F32
    if wanted == "Q8_0" and shape[-1] % _BLOCK == 0:
        return GGMLQuantizationType.Q8_0
    return GGMLQuantizationType.F16


def _named(stored: str) -> str:
    stem, _, kind = stored.rpartition(".")
    layer = re.fullmatch(r"model\.layers\.(\d+)\.(.+)", stem)
    name = _OF_LAYER.get(layer[2]) if layer else _OUTER.get(stem)
    if name is None or kind not in ("weight", "bias"):
        raise BadExport(f"export.gguf: the weight {stored} has no name in llama.cpp. Leave export.gguf out")
    return f"blk.{layer[1]}.{name}.{kind}" if layer else f"{name}.{kind}"
