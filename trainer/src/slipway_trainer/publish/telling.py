"""One tracker told all of a run: the rows that it lacks of every stage, and the conclusion, each once."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass

from slipway_core.plan import Plan
from slipway_core.protocol.workspace import Workspace
from slipway_trainer.tracking.choose import Choice
from slipway_trainer.tracking.feed import Feed
from slipway_trainer.tracking.metric_rows import MetricRows
from slipway_trainer.tracking.record import Record
from slipway_trainer.tracking.tracker import Begun, Conclusion, Tracker


@dataclass
class _Opened:
    """A run that is open in a tracker, for several feeds."""

    tracker: Tracker
    begun: Begun

    def __getattr__(self, name: str) -> object:
        return getattr(self.tracker, name)

    def begin(self) -> Begun:
        return self.begun


def tell(choice: Choice, plan: Plan, workspace: Workspace, told: Conclusion, say: Callable[[str], None]) -> str:
    """Tells a tracker what it does not have, and returns where people see it.

    Raises TrackerAway, TrackerRefuses, and OSError.
    """
    record = Record.open(workspace.stage("publish").tracking)
    record.aim(choice.name, choice.target)
    key = hashlib.sha256(repr((told.judged.to_json(), sorted(told.metrics.items()))).encode()).hexdigest()[:16]
    if record.of(choice.name).concluded == key:
        return record.of(choice.name).link
    tracker = choice.make()
    opened = _Opened(tracker, tracker.begin())
    before = 0
    for stage in plan.stages:
        rows = MetricRows(workspace.stage(stage.name).metrics, stage.name, before)
        of_stage = Record.open(workspace.stage(stage.name).tracking)
        feed = Feed(choice, rows, of_stage, time.monotonic, say, make=lambda: opened)  # type: ignore[arg-type,return-value]
        before += feed.catch_up()
    tracker.conclude(told)
    tracker.end("finished")
    record.update(choice.name, concluded=key, link=opened.begun.link)
    return opened.begun.link
