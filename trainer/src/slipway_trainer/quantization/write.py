"""A written model, quantised in its folder: a weight at a time, and each read back by the library that loads it."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import torch
from safetensors import safe_open

from slipway_core.protocol import quantized
from slipway_host.files import write_atomically
from slipway_trainer.model import weight_files
from slipway_trainer.model.quantized_layers import GROUP, Quantization
from slipway_trainer.quantization import rounding, scheme, stream
from slipway_trainer.quantization.stream import Layout
from slipway_trainer.step.errors import BadExport

_NEAR: Final = 1.01
"""Of half a step, which is what rounding may take a weight away from itself."""


def quantize_folder(folder: Path, wanted: Quantization, layers: Collection[str], left_as_is: Sequence[str]) -> None:
    """Replaces the weights of a folder in the format of Hugging Face, a file after the other, and says so in its
    config.json. Everything but the named layers' weights stays byte for byte.

    Args:
        layers: full names of the linear layers.
        left_as_is: full names of the linear layers that are not quantised.

    Raises BadExport when a layer's weight is not there by its name, or is not finite, or when what compressed-tensors
    reads of what was written is not the weight.
    """
    files = sorted(folder.glob("*.safetensors"))
    named = frozenset(layers)
    held = {file.name: _quantize_file(file, wanted, named) for file in files}
    places = {name: file for file, there in held.items() for name in there}
    if missing := sorted(layer for layer in layers if f"{layer}.weight_scale" not in places):
        raise BadExport(
            f"export.quantization: {wanted}: the files of this family do not have the layer {missing[0]} by that name, "
            "which is not quantised yet. Leave export.quantization out"
        )
    if (folder / weight_files.INDEX).is_file():
        total = sum(layout.bytes for there in held.values() for layout in there.values())
        weight_files.write_index(folder, places, total)
    path = folder / "config.json"
    told: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    told[quantized.KEY] = scheme.config(wanted, left_as_is)
    write_atomically(path, json.dumps(told, ensure_ascii=False, indent=2, sort_keys=True) + "\n")


def layouts(shape: tuple[int, ...], dtype: torch.dtype, wanted: Quantization) -> dict[str, Layout]:
    """Returns what `rounding.quantize` returns for a weight, without its numbers."""
    outputs, inputs = shape
    if wanted == "INT4":
        return {
            "weight_packed": Layout(torch.int32, (outputs, inputs // 8)),
            "weight_scale": Layout(dtype, (outputs, inputs // GROUP)),
            "weight_shape": Layout(torch.int64, (2,)),
        }
    kind = torch.int8 if wanted == "INT8" else torch.float8_e4m3fn
    return {"weight": Layout(kind, shape), "weight_scale": Layout(dtype, (outputs, 1))}


def _quantize_file(file: Path, wanted: Quantization, layers: Collection[str]) -> dict[str, Layout]:
    """Returns what the file has then, by name."""
    written = file.with_suffix(".quantized")
    with safe_open(str(file), "pt") as opened:
        stored: dict[str, Layout] = {}
        for name in opened.keys():  # noqa: SIM118 - it is no mapping
            piece: Any = opened.get_slice(name)
            stored[name] = Layout(stream.DTYPES[piece.get_dtype()], tuple(piece.get_shape()))
        # Layers first, whose parts are all multiples of 8 bytes, then the rest, large types first: so every tensor
        # begins where its numbers may, without a layer being rounded twice.
        names = sorted(stored, key=lambda name: (_layer(name, layers) is None, -stored[name].dtype.itemsize, name))
        there: dict[str, Layout] = {}
        for name in names:
            layer, own = _layer(name, layers), stored[name]
            there |= {name: own} if layer is None else _named(layer, layouts(own.shape, own.dtype, wanted))

        def tensors() -> Iterator[tuple[str, torch.Tensor]]:
            for name in names:
                layer, weight = _layer(name, layers), opened.get_tensor(name)
                held = {name: weight} if layer is None else _named(layer, rounding.quantize(layer, weight, wanted))
                yield from held.items()

        stream.write(written, there, tensors())
        with safe_open(str(written), "pt") as now:
            for name in names:
                if (layer := _layer(name, layers)) is not None:
                    parts = {part: now.get_tensor(f"{layer}.{part}") for part in layouts((0, 0), torch.float32, wanted)}
                    check(layer, opened.get_tensor(name), parts, wanted)
    written.replace(file)
    return there


_T = TypeVar("_T")


def _named(layer: str, parts: Mapping[str, _T]) -> dict[str, _T]:
    return {f"{layer}.{part}": held for part, held in parts.items()}


def check(layer: str, weight: torch.Tensor, parts: dict[str, torch.Tensor], wanted: Quantization) -> None:
    """Raises BadExport when what compressed-tensors makes of a layer's files is not its weight, rounded once.

    Args:
        layer: its name, for errors.
        weight: [outputs, inputs] as it was.
        parts: as `rounding.quantize` returns them.
    """
    from compressed_tensors.compressors import BaseCompressor
    from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme

    ours = scheme.SCHEMES[wanted]
    theirs: Any = QuantizationScheme(
        targets=["Linear"],
        weights=QuantizationArgs(**ours.weights),
        input_activations=QuantizationArgs(**ours.inputs) if ours.inputs else None,
    )
    compressor: Any = BaseCompressor.load_from_registry(ours.format)
    if (shape := parts.get("weight_shape")) is not None:
        parts = parts | {"weight_shape": torch.Size(shape.tolist())}  # pyright: ignore[reportAssignmentType]
    found = compressor.decompress(parts, theirs)["weight"].float()
    original, scale = weight.float(), parts["weight_scale"].float()
    each = scale.repeat_interleave(original.shape[-1] // scale.shape[-1], dim=-1)
    # Of FP8 the distance of two neighbours is an eighth of the number at most; an integer's is one.
    steps = (original.abs() / 8).maximum(each / 2**9) if wanted == "FP8" else each
    # What is read is a number of the weight's type again.
    rounded = original.abs() * torch.finfo(weight.dtype).eps + rounding.spacing(weight.dtype)
    off = (found - original).abs() - (steps / 2 * _NEAR + rounded)
    if not bool((off <= 0).all()):
        place = [int(axis) for axis in torch.unravel_index(off.argmax(), off.shape)]
        raise BadExport(
            f"export.quantization: {wanted}: {layer}.weight{place} is {original[*place]:.4g}, and what was written "
            f"says {found[*place]:.4g}. This is a bug in the export; the artifact was not published"
        )


def _layer(name: str, layers: Collection[str]) -> str | None:
    layer, _, last = name.rpartition(".")
    return layer if last == "weight" and layer in layers else None
