"""From the rows of a stage to one tracker: on from where it was, again after a pause when it does not take them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

from slipway_trainer.tracking.choose import Choice, without_secrets
from slipway_trainer.tracking.metric_rows import MetricRows
from slipway_trainer.tracking.record import Record
from slipway_trainer.tracking.tracker import Begun, Outcome, Row, Tracker, TrackerAway, TrackerRefuses

_AT_ONCE = 200
"""Rows of one request."""
_FIRST_PAUSE, _LONGEST_PAUSE = 5.0, 300.0


@dataclass
class Feed:
    """Of one tracker. Nothing else in the process waits for it."""

    choice: Choice
    rows: MetricRows
    record: Record
    clock: Callable[[], float]
    say: Callable[[str], None]
    make: Callable[[], Tracker] | None = None
    """For a run that somebody else opened; by itself it is the choice's."""
    _tracker: Tracker | None = None
    _begun: Begun | None = None
    _pause: float = _FIRST_PAUSE
    _not_before: float = field(default=float("-inf"))

    def advance(self) -> None:
        """Tells what there is to tell. What goes wrong is said once, and tried again later."""
        if self.clock() < self._not_before:
            return
        try:
            self.catch_up()
        except (TrackerAway, TrackerRefuses, OSError) as error:
            self._give_up_for_now(f"tracking.{self.name}: {error}; the training goes on, and it is told later")
        except Exception as error:
            # A library's own fault, whatever it is, is no reason to give the other trackers up.
            self._give_up_for_now(f"tracking.{self.name}: {type(error).__name__}: {error}; the training goes on")
        else:
            self._pause = _FIRST_PAUSE
            self._warn("")

    @property
    def name(self) -> str:
        return self.choice.name

    def catch_up(self) -> int:
        """Tells every row that the tracker does not have, and returns the last step that there is.

        Raises TrackerAway, TrackerRefuses and OSError.
        """
        tracker = self._begin()
        last, more = 0, True
        while more:
            found, more = self.rows.fresh()
            last = found[-1].step if found else last
            for some in _bundles(self._lacking(found)):
                self._tell(tracker, some)
        return last

    def end(self, outcome: Outcome) -> None:
        """Raises TrackerAway, TrackerRefuses."""
        if self._tracker is not None:
            tracker, self._tracker = self._tracker, None
            tracker.end(outcome)

    def _begin(self) -> Tracker:
        if self._tracker is None:
            self.record.aim(self.name, self.choice.target)
            tracker = (self.make or self.choice.make)()
            self._begun = tracker.begin()
            self._tracker = tracker
            self.record.update(self.name, link=self._begun.link)
            self.rows.again()
        return self._tracker

    def _lacking(self, rows: Iterable[Row]) -> list[Row]:
        """Returns the rows that are to be told: by what the tracker says it has, and else by what it was told."""
        axis, told = self._begun.axis if self._begun else None, self.record.of(self.name)
        if axis is not None:
            return [row for row in rows if row.axis > axis]
        return [row for row in rows if not told.has(row.attempt, row.step)]

    def _tell(self, tracker: Tracker, rows: Sequence[Row]) -> None:
        told, first, last = self.record.of(self.name), rows[0], rows[-1]
        if first.step <= told.furthest:
            tracker.rewind(first.axis)
        tracker.log(rows)
        self.record.update(self.name, attempt=last.attempt, step=last.step, furthest=max(told.furthest, last.step))

    def _give_up_for_now(self, why: str) -> None:
        with contextlib.suppress(Exception):
            # What a library holds for a run (files, threads, a process) would stay beside that of the next try.
            self.end("paused")
        self._not_before = self.clock() + self._pause
        self._pause = min(self._pause * 2, _LONGEST_PAUSE)
        self._warn(why)

    def _warn(self, why: str) -> None:
        # It stands in status and Events: a library may quote the key that a server has refused.
        why = without_secrets(why)
        if why and not self.record.of(self.name).warning:
            self.say(f"WARNING: {why}")
        with contextlib.suppress(OSError):  # A full disk has its own warning, of whoever writes checkpoints there.
            self.record.update(self.name, warning=why)


def _bundles(rows: Sequence[Row]) -> Iterator[list[Row]]:
    left = iter(rows)
    while some := list(islice(left, _AT_ONCE)):
        yield some
