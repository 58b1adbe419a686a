"""A model's files, written some of its weights at a time: who writes them never has more than one file's."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from slipway_host.files import write_atomically
from slipway_trainer.model import model_files
from slipway_trainer.model.pieces import shape_of

State = dict[str, torch.Tensor]
INDEX = "model.safetensors.index.json"


def split(model: Any, most: int | None = None) -> list[list[str]]:
    """Returns the names of a model's weights and buffers file by file, as many in each as `most` bytes take.

    A block stays together: in files some families have its weights under other names, several in one or one in several.
    A tied weight is there once, and a block that is larger than that has a file of its own.
    """
    most = model_files.SHARD_SIZE if most is None else most
    sizes = {name: shape_of(weight).numel() * weight.dtype.itemsize for name, weight in _saved(model).items()}
    files: list[list[str]] = []
    room = 0
    for _, together in itertools.groupby(sizes, key=_block):
        names = list(together)
        needed = sum(sizes[name] for name in names)
        if not files or needed > room:
            files.append([])
            room = most
        files[-1] += names
        room -= needed
    return files


def write(model: Any, folder: Path, files: list[list[str]], gather: Callable[[list[str]], State]) -> None:
    """Writes configuration and weights of a model in the format of Hugging Face.

    Args:
        model: with weights of its own, or without.
        files: as `split` returns them; of a single one the name is that of a model in one file.
        gather: returns the weights of some names, on the CPU; called once for each file, in their order.
    """
    if len(files) == 1:
        model.save_pretrained(str(folder), state_dict=gather(files[0]), max_shard_size="1000TB")
        return
    # The configuration, and code that the model came with.
    model.save_pretrained(str(folder), state_dict={})
    places: dict[str, str] = {}
    total = 0
    for number, names in enumerate(files, 1):
        file = f"model-{number:05d}-of-{len(files):05d}.safetensors"
        state = _as_stored(model, gather(names))
        save_file(state, folder / file, metadata={"format": "pt"})
        places |= dict.fromkeys(state, file)
        total += sum(weight.nbytes for weight in state.values())
        del state
    write_index(folder, places, total)


def write_index(folder: Path, places: dict[str, str], total: int) -> None:
    """Writes which weight is in which file.

    Args:
        places: file by weight.
        total: bytes of all weights.
    """
    index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(places.items()))}
    write_atomically(folder / INDEX, json.dumps(index, indent=2, sort_keys=True) + "\n")


def _saved(model: Any) -> State:
    """Returns what is stored of a model, in its order: weights, each once, and the buffers that are saved."""
    ignored = set(getattr(model, "_keys_to_ignore_on_save", None) or ())
    found: State = {name: weight for name, weight in model.named_parameters() if name not in ignored}
    for name, buffer in model.named_buffers():
        owner, _, last = name.rpartition(".")
        if last not in model.get_submodule(owner)._non_persistent_buffers_set and name not in ignored:
            found[name] = buffer
    return dict(sorted(found.items(), key=lambda item: _block(item[0])))


def _block(name: str) -> tuple[Any, ...]:
    """Returns what the weights of a block have in common: the name up to the block's number; the whole name elsewhere.
    Blocks come in the order of their numbers."""
    parts = name.split(".")
    number = next((place for place, part in enumerate(parts) if part.isdecimal()), None)
    return (name, -1) if number is None else (".".join(parts[:number]), int(parts[number]))


def _as_stored(model: Any, state: State) -> State:
    """Returns weights under the names, and in the shapes, that files of the model's family have."""
    from transformers.core_model_loading import revert_weight_conversion

    return {name: weight.contiguous() for name, weight in revert_weight_conversion(model, state).items()}
