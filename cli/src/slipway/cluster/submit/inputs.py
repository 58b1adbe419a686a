"""The local files that a run names: what they are, where they go in the workspace claim, and the run that reads them
there.

A source is a file, a folder or a glob. It goes to `inputs/<sha256>/`, named by its content, so that the same data is
sent once whichever run names it, and a run that was submitted keeps what it was given.
"""

from __future__ import annotations

import glob
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from slipway.exit_codes import BadInput
from slipway_core.documents import schema_walk, yaml12
from slipway_core.resources import uris
from slipway_core.resources.api import URI_PATTERN
from slipway_core.resources.training_run import TrainingRun

FOLDER = "inputs"
SUMS = "SHA256SUMS"
"""The file beside them that says what must be there; `sha256sum -c` reads it."""
_CHUNK = 1 << 20


@dataclass(frozen=True)
class InputFile:
    path: Path
    name: str
    """Below `inputs/<sha256>/`."""
    size: int
    """Bytes."""
    digest: str
    """SHA-256 of its content, in hexadecimal."""


@dataclass(frozen=True)
class Input:
    """What one `file://` URI names."""

    uri: str
    files: tuple[InputFile, ...]
    tail: str
    """What follows `inputs/<sha256>/` in the URI that names it there: a file, a folder or a glob."""

    @property
    def sums(self) -> str:
        return "".join(f"{file.digest}  {file.name}\n" for file in self.files)

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.sums.encode()).hexdigest()

    @property
    def folder(self) -> str:
        return f"{FOLDER}/{self.digest}"

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)

    def uri_in(self, claim: str) -> str:
        return f"pvc://{claim}/{self.folder}/{self.tail}"


def find(run: TrainingRun, folder: Path) -> dict[str, Input]:
    """Returns what the run's `file://` URIs name, by URI.

    Args:
        folder: where relative ones start: that of the YAML file.

    Raises BadInput that lists what is not there or cannot be sent.
    """
    found: dict[str, Input] = {}
    problems: list[str] = []
    for place, text in _local(run):
        if text in found:
            continue
        try:
            found[text] = read(text, folder)
        except BadInput as error:
            problems.append(f"{place}: {error}")
    if problems:
        raise BadInput("\n".join(problems))
    return found


def _local(run: TrainingRun) -> Iterator[tuple[str, str]]:
    for path, text in schema_walk.texts(type(run), run.to_document(), URI_PATTERN):
        if uris.parse(text).scheme == "file":
            yield yaml12.shown(path), text


def read(text: str, folder: Path) -> Input:
    """Reads what a `file://` URI names, all of it, for its digest. Raises BadInput when there is nothing to send."""
    path = Path(uris.anchor(uris.parse(text), str(folder.resolve())).path)
    if path.is_dir():
        inside = sorted(p for p in path.rglob("*") if p.is_file() and not _hidden(p.relative_to(path)))
        files = [(p, f"{path.name}/{p.relative_to(path).as_posix()}") for p in inside]
        tail = path.name
    elif path.exists():
        files, tail = [(path, path.name)], path.name
    elif glob.has_magic(str(path)):
        root, tail = _split_glob(path)
        matches = sorted(Path(name) for name in glob.glob(str(path), recursive=True))
        files = [(p, p.relative_to(root).as_posix()) for p in matches if p.is_file()]
    else:
        raise BadInput(f"{text}: there is no {path}; correct the path")
    if not files:
        raise BadInput(f"{text}: {path} holds no file to send; correct the path")
    try:
        return Input(text, tuple(_file(source, name) for source, name in files), tail)
    except OSError as error:
        raise BadInput(f"{text}: {error.filename}: cannot be read: {error.strerror}") from None


def _hidden(relative: Path) -> bool:
    """Whether the trainer would not read it either; a download keeps its bookkeeping in such folders."""
    return any(part.startswith(".") for part in relative.parts)


def _split_glob(path: Path) -> tuple[Path, str]:
    """Returns the folder before the first pattern, and the rest."""
    parts = list(path.parts)
    first = next(index for index, part in enumerate(parts) if glob.has_magic(part))
    return Path(*parts[:first]), str(PurePosixPath(*parts[first:]))


def _file(path: Path, name: str) -> InputFile:
    if "\n" in name or "\\" in name:
        raise BadInput(f"{path}: its name holds a backslash or an end of line; rename it")
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return InputFile(path, name, file.tell(), digest)


def rewritten(run: TrainingRun, claim: str, inputs: dict[str, Input]) -> dict[str, Any]:
    """Returns the run as it is applied: what its file says, without defaults, and each URI where its data is."""
    document = run.model_dump(mode="json", by_alias=True, exclude_unset=True, exclude_none=True)
    document.pop("status", None)
    # The document starts with its type, also when the models were told that by themselves.
    document = {"apiVersion": run.api_version, "kind": run.kind, **document}
    for path, text in list(schema_walk.texts(type(run), document, URI_PATTERN)):
        if text in inputs:
            schema_walk.at(document, path[:-1])[path[-1]] = inputs[text].uri_in(claim)
    return document
