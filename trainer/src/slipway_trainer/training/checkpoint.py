"""Checkpoints: complete or absent, verified before they are loaded, and all of a stage's resume state.

```
checkpoints/step-00000100/weights.pt        trained weights (rank 0; under ZeRO-3 they are in the ranks' files)
                          rank-00000.pt     optimizer, loss scaler and random generators of one rank
                          state.json        TrainState: all that the loop itself knows
                          manifest.json     size and SHA-256 of every file, written last
```
A checkpoint is written in a hidden folder beside its place and renamed into it when every byte is on the disk.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from torch import distributed

from slipway_core.protocol import artifact
from slipway_core.protocol.artifact import FileEntry
from slipway_core.protocol.workspace import StageFolder
from slipway_trainer.step.errors import BadCheckpoint, StepFailure
from slipway_trainer.step.fence import Fence
from slipway_trainer.step.files import replace_folder, sync_folder
from slipway_trainer.training import repartition
from slipway_trainer.training.engine import Ranks

MANIFEST = "manifest.json"
STATE = "state.json"
WEIGHTS = "weights.pt"
DAMAGED = "damaged-"
_PREFIX = "step-"


class CheckpointFailed(Exception):
    """The checkpoint could not be written; what was there before is untouched."""


@dataclass(frozen=True)
class TrainState:
    """Where the loop is. Together with the files of the ranks it is all that a resumed stage needs."""

    step: int = 0
    """Optimizer steps done; the rows they took follow from it."""
    rows: int = 0
    """Rows of the stream done: where the next step starts."""
    epoch: float = 0.0
    tokens: int = 0
    """Tokens of the documents that were trained on."""
    seconds: float = 0.0
    """Of training, validation and checkpoints, over all attempts."""
    loss: float | None = None
    validation_loss: float | None = None
    best_step: int | None = None
    best_loss: float | None = None
    worse_in_a_row: int = 0
    """Measurements since the lowest validation loss."""
    world: int = 1
    zero_stage: int = 0

    @classmethod
    def load(cls, path: Path) -> TrainState:
        return cls(**json.loads(path.read_text(encoding="utf-8")))


class Checkpoints:
    """Those of one stage, as one attempt of it writes and reads them. Every method but `complete` is collective."""

    def __init__(
        self, folder: StageFolder, *, keep: int, fence: Fence, ranks: Ranks, log: Callable[[str], None]
    ) -> None:
        self.folder = folder
        self.keep = keep
        self.fence = fence
        self.ranks = ranks
        self.log = log

    def clean(self) -> None:
        """Removes what an attempt that was killed left half written."""
        if self.ranks.first:
            self.folder.checkpoints.mkdir(parents=True, exist_ok=True)
            for path in self.folder.checkpoints.glob(".step-*"):
                shutil.rmtree(path, ignore_errors=True)

    def save(self, engine: Any, state: TrainState) -> Path:
        """Writes a checkpoint and removes old ones.

        Raises CheckpointFailed on every rank when one could not write (a full disk), Superseded when a newer attempt
        has the stage.
        """
        final = self.folder.checkpoint(state.step)
        temporary = final.with_name(f".{final.name}.tmp-{self.fence.attempt}")
        self._together(lambda: self._fresh(temporary), temporary)
        entries = self._together(lambda: self._write_rank(engine, temporary), temporary)
        state = replace(state, world=self.ranks.world, zero_stage=engine.zero_optimization_stage())
        self._together(lambda: self._publish(temporary, final, state, entries), temporary)
        if self.ranks.first:
            self._prune(state.best_step)
        return final

    def newest(self) -> tuple[Path, TrainState] | None:
        """Returns the newest complete checkpoint, the same on all ranks, or None.

        A damaged one is named in the log and set aside under `damaged-…`; it is never loaded.
        """
        found: list[str | None] = [None]
        if self.ranks.first:
            for path in sorted(self.complete(), reverse=True):
                try:
                    verify(path)
                except BadCheckpoint as error:
                    self.log(f"{error}. It is not used")
                    self.fence.check()
                    _set_aside(path)
                    continue
                found[0] = str(path)
                break
        if self.ranks.world > 1:
            distributed.broadcast_object_list(found, src=0)
        if found[0] is None:
            return None
        path = Path(found[0])
        return path, TrainState.load(path / STATE)

    def load(self, engine: Any, path: Path, state: TrainState) -> None:
        """Puts weights, optimizer and random generators back as they were.

        Raises BadCheckpoint when it was written by another number of processes and ZeRO-3 cannot be divided anew.
        """
        same_world = state.world == self.ranks.world
        if state.zero_stage == 3 and not same_world:
            raise BadCheckpoint(
                f"{path}: was written by {state.world} processes under ZeRO-3 and cannot go on with "
                f"{self.ranks.world}. Set compute so that nodes × processesPerNode is {state.world}, or start a new "
                "run with zeroStage: 2"
            )
        self.load_weights(engine, path)
        files = sorted(path.glob("rank-*.pt"))
        if same_world:
            mine = _read(files[self.ranks.rank])
            _restore_random(mine["random"])
        else:
            self.log(
                f"the checkpoint was written by {state.world} processes and goes on with {self.ranks.world}: "
                "the optimizer is divided anew"
            )
            mine = _read(files[0])
        optimizer = mine["optimizer"]
        if state.zero_stage in (1, 2) and not same_world:
            parts = [_read(file)["optimizer"] for file in files]
            optimizer = repartition.for_rank(parts, engine.optimizer, self.ranks.rank)
        elif state.zero_stage == 0 and same_world and self.ranks.rank > 0:
            optimizer = _read(files[0])["optimizer"]
        repartition.load(engine, optimizer, self.ranks)

    def load_weights(self, engine: Any, path: Path) -> None:
        """Puts the trained weights back, and under ZeRO-3 (where they are in the ranks' files) the optimizer too."""
        if engine.zero_optimization_stage() == 3:
            repartition.load(engine, _read(path / _rank_name(self.ranks.rank))["optimizer"], self.ranks)
            return
        saved = _read(path / WEIGHTS)
        with torch.no_grad():
            for name, parameter in engine.module.model.named_parameters():
                if parameter.requires_grad:
                    parameter.copy_(saved[name])

    def complete(self) -> list[Path]:
        """Returns the complete checkpoints, oldest first; completeness alone, not damage."""
        return sorted(p for p in self.folder.checkpoints.glob(f"{_PREFIX}*") if (p / MANIFEST).is_file())

    def _fresh(self, temporary: Path) -> None:
        if self.ranks.first:
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)

    def _write_rank(self, engine: Any, temporary: Path) -> dict[str, FileEntry]:
        stage = engine.zero_optimization_stage()
        state: dict[str, Any] = {"random": _random_state(), "optimizer": None}
        # Without ZeRO all ranks hold the same optimizer.
        if stage > 0 or self.ranks.first:
            state["optimizer"] = engine.optimizer.state_dict()
        name = _rank_name(self.ranks.rank)
        entries = {name: _write(temporary / name, state)}
        if self.ranks.first and stage < 3:
            weights = {n: p.detach() for n, p in engine.module.model.named_parameters() if p.requires_grad}
            entries[WEIGHTS] = _write(temporary / WEIGHTS, weights)
        return entries

    def _publish(self, temporary: Path, final: Path, state: TrainState, entries: list[dict[str, FileEntry]]) -> None:
        if not self.ranks.first:
            return
        files = {name: entry for part in entries for name, entry in part.items()}
        text = json.dumps(asdict(state), indent=2) + "\n"
        files[STATE] = _write_text(temporary / STATE, text)
        manifest = {"version": 1, "step": state.step, "files": {n: e.model_dump() for n, e in sorted(files.items())}}
        _write_text(temporary / MANIFEST, json.dumps(manifest, indent=2) + "\n")
        sync_folder(temporary)
        self.fence.check()
        # Of the same step: only a damaged one, or one that this attempt wrote again after it fell back.
        replace_folder(temporary, final)

    def _together(self, work: Callable[[], Any], temporary: Path) -> list[Any]:
        """Runs a part on every rank and returns what each returned; when one fails, all of them do, so that none waits
        for the others for ever."""
        try:
            mine: tuple[Any, BaseException | None] = (work(), None)
        except (OSError, RuntimeError, StepFailure) as error:
            mine = (None, error)
        everyone: list[Any] = [mine]
        if self.ranks.world > 1:
            everyone = [None] * self.ranks.world
            distributed.all_gather_object(everyone, mine)
        failure = next((error for _, error in everyone if error is not None), None)
        if failure is None:
            return [value for value, _ in everyone]
        if self.ranks.first:
            shutil.rmtree(temporary, ignore_errors=True)
        if isinstance(failure, StepFailure):
            raise failure
        raise CheckpointFailed(f"{temporary.parent}: {_in_one_line(failure)}") from failure

    def _prune(self, best_step: int | None) -> None:
        best = self.folder.checkpoint(best_step).name if best_step is not None else None
        for path in self.complete()[: -self.keep]:
            if path.name != best:
                # Out of sight first: a half removed folder must never look like a checkpoint.
                hidden = path.with_name(f".{path.name}.old")
                shutil.rmtree(hidden, ignore_errors=True)
                path.replace(hidden)
                shutil.rmtree(hidden, ignore_errors=True)


def verify(path: Path) -> None:
    """Raises BadCheckpoint, naming the file, when a byte of a checkpoint is not as it was written."""
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        wanted = {name: FileEntry.model_validate(entry) for name, entry in manifest["files"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadCheckpoint(f"{path / MANIFEST}: damaged: {_in_one_line(error)}") from None
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


def _write(path: Path, value: Any) -> FileEntry:
    with path.open("wb") as file:
        hashing = _HashingFile(file)
        torch.save(compact(value), hashing)  # type: ignore[arg-type]
        file.flush()
        os.fsync(file.fileno())
    return FileEntry(size=hashing.size, sha256=hashing.sha256.hexdigest())


def _write_text(path: Path, text: str) -> FileEntry:
    data = text.encode()
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return FileEntry(size=len(data), sha256=hashlib.sha256(data).hexdigest())


def compact(value: Any) -> Any:
    """Returns the value with every tensor that is a small view of a large buffer copied: torch saves whole buffers."""
    if isinstance(value, torch.Tensor):
        return value.clone() if value.untyped_storage().nbytes() > value.nbytes else value
    if isinstance(value, dict):
        return type(value)((key, compact(item)) for key, item in value.items())
    if isinstance(value, list):
        return [compact(item) for item in value]
    return value


def _read(path: Path) -> Any:
    # Not weights_only: DeepSpeed's loss scaler is an object. The file is the run's own, and its digest was checked.
    return torch.load(path, map_location="cpu", weights_only=False)


def _hash(path: Path) -> FileEntry | None:
    try:
        return artifact.hash_file(path)
    except OSError:
        return None


def _set_aside(path: Path) -> None:
    target = path.with_name(f"{DAMAGED}{path.name}")
    shutil.rmtree(target, ignore_errors=True)
    path.replace(target)


def _rank_name(rank: int) -> str:
    return f"rank-{rank:05d}.pt"


def _random_state() -> dict[str, Any]:
    state: dict[str, Any] = {
        "torch": torch.get_rng_state(),
        "numpy": np.random.get_state(),
        "python": random.getstate(),
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def _restore_random(state: dict[str, Any]) -> None:
    torch.set_rng_state(state["torch"])
    np.random.set_state(state["numpy"])
    random.setstate(state["python"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])


def _in_one_line(error: BaseException) -> str:
    lines: Iterator[str] = iter(str(error).strip().splitlines())
    return next(lines, type(error).__name__)
