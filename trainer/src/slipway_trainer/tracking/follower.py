"""The process that follows a stage and tells its trackers, beside the one that trains and in the way of nothing.

A tracker's library may hang, leak or crash: it does so here. One thread a tracker, so that none waits for another. The
process learns by its standard input what it follows, and by the end of that that the stage has ended: it tells what is
left for a few seconds and goes, whatever a library still waits for. What is not told by then is told later.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TextIO, cast

from slipway_core import plan as plans
from slipway_core.protocol.workspace import Workspace
from slipway_host.parent import end_with
from slipway_trainer.tracking import choose
from slipway_trainer.tracking.feed import Feed
from slipway_trainer.tracking.metric_rows import MetricRows, steps_before
from slipway_trainer.tracking.record import Record
from slipway_trainer.tracking.tracker import Outcome, TrackedRun

LOOK_SECONDS = 2.0
"""Between two looks at the file that grows."""
LAST_SECONDS = 8.0
"""For what is left to be told at the end of a stage."""
PARENT_VARIABLE = "SLIPWAY_FOLLOWED_PID"
"""Environment variable: the process that trains."""
_NICE = 15


def main() -> None:
    if not end_with(int(os.environ.get(PARENT_VARIABLE, "0")), signal.SIGKILL):
        return
    # The one that trains is told to stop, and says here when it has.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(OSError):
        os.nice(_NICE)
    out = _only_we_speak()
    told = json.loads(sys.stdin.readline())
    stage = str(told["stage"])

    def say(message: str) -> None:
        print(f"{stage}: {choose.without_secrets(message)}", file=out, flush=True)

    plan, workspace = plans.load(told["plan"]), Workspace(Path(told["workspace"]))
    tracking = choose.asked()
    if tracking is None:
        return
    folder, stages = workspace.stage(stage), [one.name for one in plan.stages]
    before, record = steps_before(workspace, stages, stage), Record.open(folder.tracking)
    feeds = [
        Feed(choice, MetricRows(folder.metrics, stage, before), record, time.monotonic, say)
        for choice in choose.choices(tracking, TrackedRun.of(plan, workspace.root))
    ]
    follow(feeds, wait_for_end=lambda: _outcome(sys.stdin.read()))
    # A thread that waits for a tracker keeps nobody here.
    os._exit(0)


def follow(
    feeds: list[Feed],
    *,
    wait_for_end: Callable[[], Outcome],
    look: float = LOOK_SECONDS,
    last: float = LAST_SECONDS,
) -> None:
    """Tells each tracker what there is until the stage has ended, and then what is left, for a few seconds."""
    ended, outcome = threading.Event(), cast("list[Outcome]", ["paused"])

    def work(feed: Feed) -> None:
        while not ended.wait(look):
            feed.advance()
        feed.advance()
        with contextlib.suppress(Exception):
            feed.end(outcome[0])

    threads = [threading.Thread(target=work, args=(feed,), name=feed.name, daemon=True) for feed in feeds]
    for thread in threads:
        thread.start()
    outcome[0] = wait_for_end()
    ended.set()
    deadline = time.monotonic() + last
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))


def _outcome(word: str) -> Outcome:
    return "failed" if word.strip() == "failed" else "paused"


def _only_we_speak() -> TextIO:
    """Returns where our own lines go. What the libraries print is nobody's log: it may hold a key."""
    ours = os.fdopen(os.dup(1), "w")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    return ours


if __name__ == "__main__":
    main()
