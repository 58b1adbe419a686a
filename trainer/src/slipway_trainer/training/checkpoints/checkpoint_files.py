"""The files of one checkpoint: written durably, hashed on their way to the disk, and verified before they are read.

```
step-00000100/weights.pt        trained weights (rank 0; under ZeRO-3 they are in the ranks' files)
              rank-00000.pt     optimizer, loss scaler and random generators of one rank
              state.json        TrainState: all that the loop itself knows
              manifest.json     size and SHA-256 of every file, written last
```
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any

import torch

from slipway_core.protocol import artifact
from slipway_core.protocol.artifact import FileEntry
from slipway_trainer.step.errors import BadCheckpoint, first_line

MANIFEST = "manifest.json"
STATE = "state.json"
WEIGHTS = "weights.pt"


def rank_name(rank: int) -> str:
    return f"rank-{rank:05d}.pt"


def verify(path: Path) -> None:
    """Raises BadCheckpoint, naming the file, when a byte of a checkpoint is not as it was written."""
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        wanted = {name: FileEntry.model_validate(entry) for name, entry in manifest["files"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadCheckpoint(f"{path / MANIFEST}: damaged: {first_line(error)}") from None
    with ThreadPoolExecutor(4) as pool:
        for (name, entry), found in zip(wanted.items(), pool.map(_hash, [path / n for n in wanted]), strict=True):
            if found is None:
                raise BadCheckpoint(f"{path / name}: damaged: cannot be read")
            if found != entry:
                raise BadCheckpoint(
                    f"{path / name}: damaged: {found.size} bytes with sha256 {found.sha256[:12]}…, "
                    f"{entry.size} bytes with {entry.sha256[:12]}… were written"
                )


class _HashingFile:
    """Writes a file and knows its size and SHA-256 at the end, without reading it again."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.size = 0
        self.sha256 = hashlib.sha256()

    def write(self, block: Any) -> int:
        self.file.write(block)
        self.sha256.update(block)
        size = memoryview(block).nbytes
        self.size += size
        return size

    def flush(self) -> None:
        self.file.flush()


def write(path: Path, value: Any) -> FileEntry:
    with path.open("wb") as file:
        hashing = _HashingFile(file)
        torch.save(value, hashing)  # type: ignore[arg-type]
        file.flush()
        os.fsync(file.fileno())
    return FileEntry(size=hashing.size, sha256=hashing.sha256.hexdigest())


def write_text(path: Path, text: str) -> FileEntry:
    data = text.encode()
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return FileEntry(size=len(data), sha256=hashlib.sha256(data).hexdigest())


class HostCopy:
    """A copy in the host's memory, which nothing that is trained from there on changes; the next one takes its place.

    The memory is kept: to get it anew takes several times as long as to fill it, and a GPU fills by itself only what
    was pinned.
    """

    def __init__(self) -> None:
        self._buffers: dict[tuple[str, ...], torch.Tensor] = {}

    def of(self, value: Any) -> Any:
        """Returns a copy, whose tensors are those of the copy before where they are as large.

        Every tensor has a buffer of its own: torch saves all of a buffer of which one is a view.
        """
        copied = self._copied(value, ())
        if torch.cuda.is_available():
            # Copies from a GPU go on by themselves until then.
            torch.cuda.synchronize()
        return copied

    def _copied(self, value: Any, place: tuple[str, ...]) -> Any:
        if isinstance(value, torch.Tensor):
            return self._buffer(value, place).copy_(value.detach(), non_blocking=True)
        if isinstance(value, dict):
            return type(value)((key, self._copied(item, (*place, str(key)))) for key, item in value.items())
        if isinstance(value, list | tuple) and type(value) in (list, tuple):
            return type(value)(self._copied(item, (*place, str(index))) for index, item in enumerate(value))
        # DeepSpeed's loss scaler is an object that changes as it goes.
        return copy.deepcopy(value)

    def _buffer(self, like: torch.Tensor, place: tuple[str, ...]) -> torch.Tensor:
        found = self._buffers.get(place)
        if found is None or (found.shape, found.dtype) != (like.shape, like.dtype):
            found = self._buffers[place] = torch.empty(like.shape, dtype=like.dtype, pin_memory=like.is_cuda)
        return found


def read(path: Path, *, mapped: bool = False) -> Any:
    """Returns what a file holds.

    Args:
        mapped: tensors are read from the disk where they are looked at, and take no memory until then.
    """
    # Not weights_only: DeepSpeed's loss scaler is an object. The file is the run's own, and its digest was checked.
    return torch.load(path, map_location="cpu", weights_only=False, mmap=mapped)


def _hash(path: Path) -> FileEntry | None:
    try:
        return artifact.hash_file(path)
    except OSError:
        return None
