"""The checkpoints of a stage: complete or absent, the newest ones kept, and a damaged one never used.

One is copied in the host's memory, and written from there by a thread while the training goes on, in a hidden folder
beside its place. It is renamed into it when every byte of every rank is on the disk: until then it is absent.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from slipway_core.protocol.artifact import FileEntry
from slipway_core.protocol.workspace import StageFolder
from slipway_host.files import replace_folder, sync
from slipway_trainer.step.errors import BadCheckpoint, StepFailure, first_line
from slipway_trainer.step.fence import Fence
from slipway_trainer.training import process_group, randomness
from slipway_trainer.training.checkpoints import checkpoint_files
from slipway_trainer.training.checkpoints.checkpoint_files import MANIFEST, STATE, WEIGHTS
from slipway_trainer.training.checkpoints.train_state import TrainState
from slipway_trainer.training.process_group import Ranks

DAMAGED = "damaged-"
_PREFIX = "step-"


class CheckpointFailed(Exception):
    """The checkpoint of a step could not be written; what was there before is untouched."""

    def __init__(self, step: int, message: str) -> None:
        super().__init__(message)
        self.step = step


@dataclass(frozen=True)
class _Writing:
    """A checkpoint on its way to the disk."""

    state: TrainState
    temporary: Path
    entries: Future[dict[str, FileEntry]]
    """Of this rank's files."""


class Checkpoints:
    """Those of one stage, as one attempt of it writes and reads them. Every method but `complete` and `close` is
    collective; the thread that writes is not."""

    def __init__(
        self, folder: StageFolder, *, keep: int, fence: Fence, ranks: Ranks, log: Callable[[str], None]
    ) -> None:
        self.folder = folder
        self.keep = keep
        self.fence = fence
        self.ranks = ranks
        self.log = log
        self._writing: _Writing | None = None
        self._pool = ThreadPoolExecutor(1, "checkpoint")
        self._copy = checkpoint_files.HostCopy()

    def clean(self) -> None:
        """Removes what an attempt that was killed left half written."""
        if self.ranks.first:
            self.folder.checkpoints.mkdir(parents=True, exist_ok=True)
            for path in self.folder.checkpoints.glob(".step-*"):
                shutil.rmtree(path, ignore_errors=True)

    @property
    def writing(self) -> bool:
        """Whether one was begun that is not finished: the same on all ranks."""
        return self._writing is not None

    @property
    def written(self) -> bool:
        """Whether this rank has nothing more to write."""
        return self._writing is None or self._writing.entries.done()

    def begin(self, engine: Any, state: TrainState) -> None:
        """Copies what is to be saved, and begins to write it. One at a time: `finish` the one before.

        Raises CheckpointFailed on every rank when one could not, Superseded when a newer attempt has the stage.
        """
        assert self._writing is None, "a checkpoint is begun before the one before it is finished"
        final = self.folder.checkpoint(state.step)
        temporary = final.with_name(f".{final.name}.tmp-{self.fence.attempt}")
        state = replace(state, world=self.ranks.world, zero_stage=engine.zero_optimization_stage())
        held: dict[str, Any] = {}

        def prepare() -> None:
            held.update(self._copy.of(self._of_rank(engine)))
            self._fresh(temporary)

        self._together(prepare, state.step, temporary)
        # Of a failure in the thread `finish` hears.
        self._writing = _Writing(state, temporary, self._pool.submit(_write, held, temporary))

    def finish(self) -> TrainState:
        """Waits for the checkpoint that was begun, puts it in its place, and removes old ones. Returns its state.

        Raises CheckpointFailed on every rank when one could not write (a full disk), Superseded when a newer attempt
        has the stage.
        """
        assert self._writing is not None, "no checkpoint was begun"
        writing, self._writing = self._writing, None
        state, temporary = writing.state, writing.temporary
        entries = self._together(writing.entries.result, state.step, temporary)
        final = self.folder.checkpoint(state.step)
        self._together(lambda: self._publish(temporary, final, state, entries), state.step, temporary)
        if self.ranks.first:
            self._prune(state.best_step)
        return state

    def close(self) -> None:
        """Waits for what this rank is still writing, which nobody finishes any more: another try in this process would
        remove the folder from under it, and hold its copy beside its own."""
        self._pool.shutdown()

    def newest(self) -> tuple[Path, TrainState] | None:
        """Returns the newest complete checkpoint, the same on all ranks, or None.

        A damaged one is named in the log and set aside under `damaged-…`; it is never loaded.
        """
        path = process_group.of_first(self._newest_whole() if self.ranks.first else None, self.ranks)
        return None if path is None else (path, TrainState.load(path / STATE))

    def is_whole(self, step: int) -> bool:
        """Returns whether the checkpoint of a step is there, byte for byte; a damaged one is named and set aside."""
        path = self.folder.checkpoint(step)
        whole = self.ranks.first and path in self.complete() and self._verified(path)
        return process_group.of_first(whole, self.ranks)

    def complete(self) -> list[Path]:
        """Returns the complete checkpoints, oldest first; completeness alone, not damage."""
        return sorted(p for p in self.folder.checkpoints.glob(f"{_PREFIX}*") if (p / MANIFEST).is_file())

    def _newest_whole(self) -> Path | None:
        return next((path for path in sorted(self.complete(), reverse=True) if self._verified(path)), None)

    def _verified(self, path: Path) -> bool:
        try:
            checkpoint_files.verify(path)
        except BadCheckpoint as error:
            self.log(f"{error}. It is not used")
            self.fence.check()
            _set_aside(path)
            return False
        return True

    def _fresh(self, temporary: Path) -> None:
        if self.ranks.first:
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)

    def _of_rank(self, engine: Any) -> dict[str, Any]:
        """Returns what this rank saves, by the name of the file. Under ZeRO-3 all ranks make it together."""
        stage = engine.zero_optimization_stage()
        state: dict[str, Any] = {"random": randomness.state(), "optimizer": None}
        # Without ZeRO all ranks hold the same optimizer.
        if stage > 0 or self.ranks.first:
            state["optimizer"] = engine.optimizer.state_dict()
        files = {checkpoint_files.rank_name(self.ranks.rank): state}
        if self.ranks.first and stage < 3:
            files[WEIGHTS] = {n: p.detach() for n, p in engine.module.model.named_parameters() if p.requires_grad}
        return files

    def _publish(self, temporary: Path, final: Path, state: TrainState, entries: list[dict[str, FileEntry]]) -> None:
        if not self.ranks.first:
            return
        files = {name: entry for part in entries for name, entry in part.items()}
        text = json.dumps(asdict(state), indent=2) + "\n"
        files[STATE] = checkpoint_files.write_text(temporary / STATE, text)
        manifest = {"version": 1, "step": state.step, "files": {n: e.model_dump() for n, e in sorted(files.items())}}
        checkpoint_files.write_text(temporary / MANIFEST, json.dumps(manifest, indent=2) + "\n")
        sync(temporary)
        self.fence.check()
        # Of the same step: only a damaged one, or one that this attempt wrote again after it fell back.
        replace_folder(temporary, final)

    def _together(self, work: Callable[[], Any], step: int, temporary: Path) -> list[Any]:
        """Runs a part on every rank and returns what each returned; when one fails, all of them do, so that none waits
        for the others for ever."""
        try:
            mine: tuple[Any, BaseException | None] = (work(), None)
        except (OSError, RuntimeError, StepFailure) as error:
            mine = (None, self._cause(error))
        everyone = process_group.of_all(mine, self.ranks)
        failures = [error for _, error in everyone if error is not None]
        failure = next((error for error in failures if isinstance(error, StepFailure)), next(iter(failures), None))
        if failure is None:
            return [value for value, _ in everyone]
        if self.ranks.first:
            shutil.rmtree(temporary, ignore_errors=True)
        if isinstance(failure, StepFailure):
            raise failure
        raise CheckpointFailed(step, f"{temporary.parent}: {first_line(failure)}") from failure

    def _cause(self, error: BaseException) -> BaseException:
        """Returns why something failed: a newer attempt takes away what an older one has half written."""
        try:
            self.fence.check()
        except StepFailure as stale:
            return stale
        return error

    def _prune(self, best_step: int | None) -> None:
        best = self.folder.checkpoint(best_step).name if best_step is not None else None
        for path in self.complete()[: -self.keep]:
            if path.name != best:
                # Out of sight first: a half removed folder must never look like a checkpoint.
                hidden = path.with_name(f".{path.name}.old")
                shutil.rmtree(hidden, ignore_errors=True)
                path.replace(hidden)
                shutil.rmtree(hidden, ignore_errors=True)


def _write(held: dict[str, Any], temporary: Path) -> dict[str, FileEntry]:
    """Writes the files of a rank."""
    return {name: checkpoint_files.write(temporary / name, value) for name, value in held.items()}


def _set_aside(path: Path) -> None:
    target = path.with_name(f"{DAMAGED}{path.name}")
    shutil.rmtree(target, ignore_errors=True)
    path.replace(target)
