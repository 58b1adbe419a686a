"""A model that a run judges as it is: its files as they are, with the tokenizer that the run gives it.

An artifact of a run to which this run changes nothing is taken whole: it has the digest that it had, so that an
endpoint and a rollback know it for the same. Of any other folder configuration and weights are taken byte for byte, and
the tokenizer and what ends an answer are written as for a model that was trained.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import GenerationConfig, PreTrainedTokenizerFast

from slipway_core.plan import Plan
from slipway_core.protocol import artifact
from slipway_core.protocol.artifact import ArtifactError, Manifest
from slipway_trainer.model import config_file, model_files
from slipway_trainer.model.weight_files import INDEX
from slipway_trainer.step.errors import BadModel, first_line

_WHOLE = "model.safetensors"
_DTYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16", "F64": "float64"}


@dataclass(frozen=True)
class Source:
    """A base model that is taken as it is."""

    folder: Path
    manifest: Manifest | None
    """Of an artifact; None of any other folder."""
    whole: bool
    """Whether every file of it is taken, the tokenizer too."""
    names: tuple[str, ...]
    """Its files."""

    @property
    def size(self) -> int:
        """In bytes."""
        return sum((self.folder / name).stat().st_size for name in self.names)


def source(plan: Plan, folder: Path) -> Source:
    """Returns what is taken of the base model of a plan, every byte of an artifact verified.

    Raises BadModel for an artifact that is damaged, and for a folder without weights that transformers would read.
    """
    manifest = manifest_of(folder)
    if manifest is not None:
        try:
            artifact.verify(folder)
        except ArtifactError as error:
            raise BadModel(f"model.from: {error}") from None
    as_it_was = plan.model.chat_template == "Auto" and plan.model.chat_template_arguments is None
    if manifest is not None and as_it_was:
        return Source(folder, manifest, True, tuple(manifest.files))
    code = sorted(path.name for path in folder.glob("*.py")) if plan.model.trust_remote_code else []
    return Source(folder, manifest, False, ("config.json", *_weights(folder), *code))


def manifest_of(folder: Path) -> Manifest | None:
    """Returns the manifest of an artifact; None of a folder without one. Raises BadModel for one that is damaged."""
    if not (folder / artifact.MANIFEST).is_file():
        return None
    try:
        return artifact.read(folder)
    except ArtifactError as error:
        raise BadModel(f"model.from: {error}") from None


def write(found: Source, words: PreTrainedTokenizerFast, folder: Path, *, linked: bool) -> None:
    """Writes the model. The folder must not exist.

    Args:
        words: the run's tokenizer, for a model that is not taken whole.
        linked: whether the files are this run's own, and need no room of their own beside them.
    """
    if found.whole:
        folder.mkdir(parents=True)
    else:
        model_files.write_tokenizer(words, _generation_config(found.folder), folder)
    for name in found.names:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        _take((found.folder / name).resolve(), target, linked=linked)


def parameters(found: Source) -> int:
    """Returns how many numbers its weights have; of weights that are packed, as many as they are packed into."""
    told = found.manifest.metrics.get("parameters") if found.manifest is not None else None
    if told is not None:
        return int(told)
    return sum(math.prod(entry["shape"]) for entry in _entries(found))


def dtype_of(found: Source) -> str:
    """Returns the name of the type of most of its weights."""
    sizes: dict[str, int] = {}
    for entry in _entries(found):
        sizes[entry["dtype"]] = sizes.get(entry["dtype"], 0) + math.prod(entry["shape"])
    most = max(sizes, key=lambda name: sizes[name], default="unknown")
    return _DTYPES.get(most, most.lower())


def _weights(folder: Path) -> Iterator[str]:
    """Yields the names of the files that transformers reads the weights from, and of their index."""
    index = folder / INDEX
    if not index.is_file():
        if not (folder / _WHOLE).is_file():
            raise BadModel(f"model.from: {folder}: holds neither {_WHOLE} nor {INDEX}, so its weights are not found")
        yield _WHOLE
        return
    try:
        names = sorted(set(map(str, json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadModel(f"model.from: {index}: cannot be read: {first_line(error)}") from None
    for name in names:
        if Path(name).name != name or not name.endswith(artifact.WEIGHT_SUFFIXES):
            raise BadModel(f"model.from: {index}: names {name!r}, which is no file of weights in that folder")
        if not (folder / name).is_file():
            raise BadModel(f"model.from: {index}: names {name}, which is not there. Bring the whole model")
    yield INDEX
    yield from names


def _entries(found: Source) -> Iterator[dict[str, Any]]:
    """Yields dtype and shape of each tensor, from the heads of the files.

    Raises BadModel for a file that has none: a pickle under another name, or one that was cut.
    """
    for name in found.names:
        if name.endswith(artifact.WEIGHT_SUFFIXES):
            yield from _head(found.folder / name)


def _head(path: Path) -> Iterator[dict[str, Any]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="numpy") as file:
            for name in sorted(file.keys()):
                part = file.get_slice(name)
                yield {"dtype": part.get_dtype(), "shape": part.get_shape()}
    except (SafetensorError, OSError) as error:
        raise BadModel(f"model.from: {path}: is no safetensors file: {first_line(error)}") from None


def _generation_config(folder: Path) -> GenerationConfig | None:
    if not (folder / "generation_config.json").is_file():
        # As transformers has it: what ends an answer stands in the configuration of older models.
        ends = {name: config_file.read(folder).get(name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
        return GenerationConfig(**ends)
    try:
        return GenerationConfig.from_pretrained(str(folder), local_files_only=True)
    except (OSError, ValueError) as error:
        raise BadModel(f"model.from: {folder}: generation_config.json: {first_line(error)}") from None


def _take(path: Path, target: Path, *, linked: bool) -> None:
    link: Callable[[Path, Path], object] = os.link
    if linked:
        try:
            link(path, target)
        except OSError:
            pass  # Another disk, or one without links.
        else:
            return
    shutil.copyfile(path, target)
