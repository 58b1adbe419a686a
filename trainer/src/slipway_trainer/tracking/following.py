"""The follower of a stage as the process that trains has it: started, and told to end. It is never waited for long."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen

from slipway_core.plan import Plan
from slipway_core.protocol.workspace import Workspace
from slipway_core.resources.status import Progress
from slipway_trainer.step.errors import Interrupted, StepFailure, Stop
from slipway_trainer.tracking import choose, record
from slipway_trainer.tracking.follower import LAST_SECONDS, PARENT_VARIABLE

_END_SECONDS, _STOP_SECONDS = LAST_SECONDS + 2.0, 1.0
"""How long a stage that has ended waits for it, and one that is told to stop, whose grace period runs."""
_SINGLE = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"}


@dataclass
class Following:
    process: Popen[bytes]
    file: Path
    """What each tracker has of the stage."""

    def end(self, *, failed: bool, seconds: float) -> None:
        """Lets it tell what is left, and ends it after so many seconds."""
        with contextlib.suppress(OSError):
            assert self.process.stdin
            self.process.stdin.write(b"failed\n" if failed else b"ended\n")
            self.process.stdin.close()
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def beside(self, progress: Progress | None) -> Progress | None:
        """Returns where a stage was when it ended, with where that is seen and what could not be told."""
        return progress and told_with(progress, self.file)


def told_with(progress: Progress, file: Path) -> Progress:
    """Returns a progress with what the trackers of a stage say."""
    told = record.read(file)
    words = [progress.warning or "", *record.warnings(told)]
    warning = ". ".join(word for word in words if word)[:1024] or None
    return progress.model_copy(update={"links": record.links(told) or None, "warning": warning})


@contextlib.contextmanager
def following(plan: Plan, workspace: Workspace, stage: str) -> Iterator[Following | None]:
    """Has a stage followed while it trains, where the run is tracked.

    Raises BadConfig when what the executor says of trackers cannot be read.
    """
    tracking = choose.asked()
    keys = choose.take_keys()
    if tracking is None:
        yield None
        return
    follower = _start(plan, workspace, stage, keys)
    try:
        yield follower
    except StepFailure as failure:
        stopped = isinstance(failure, Interrupted)
        follower.end(failed=not stopped, seconds=_STOP_SECONDS if stopped else _END_SECONDS)
        failure.progress = follower.beside(failure.progress)
        raise
    except BaseException as error:
        follower.end(failed=not isinstance(error, Stop), seconds=_STOP_SECONDS)
        raise
    else:
        follower.end(failed=False, seconds=_END_SECONDS)


def _start(plan: Plan, workspace: Workspace, stage: str, keys: dict[str, str]) -> Following:
    process = Popen(
        [sys.executable, "-m", "slipway_trainer.tracking.follower"],
        stdin=subprocess.PIPE,
        env={**os.environ, **_SINGLE, **keys, PARENT_VARIABLE: str(os.getpid())},
    )
    told = {"plan": plan.to_json(), "workspace": str(workspace.root), "stage": stage}
    with contextlib.suppress(OSError):
        assert process.stdin
        process.stdin.write(json.dumps(told).encode() + b"\n")
        process.stdin.flush()
    return Following(process, workspace.stage(stage).tracking)
