"""What a tracker gets of a stage over several attempts, and what becomes of one that does not take it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.unit.trainer.tracking.metrics_file import write_rows

from slipway_trainer.tracking.choose import Choice
from slipway_trainer.tracking.feed import Feed
from slipway_trainer.tracking.metric_rows import MetricRows
from slipway_trainer.tracking.record import Record, read
from slipway_trainer.tracking.tracker import Begun, Conclusion, Outcome, Row, TrackerAway, TrackerRefuses


@dataclass
class Ledger:
    """A tracker that keeps what it is told, and fails when it is told to."""

    axis: int | None = None
    told: list[tuple[int, int]] = field(default_factory=list)
    rewound: list[int] = field(default_factory=list)
    begun: int = 0
    ended: int = 0
    fault: Exception | None = None

    def begin(self) -> Begun:
        self.begun += 1
        if self.fault:
            raise self.fault
        return Begun("http://tracker/run", self.axis)

    def rewind(self, axis: int) -> None:
        self.rewound.append(axis)

    def log(self, rows: Sequence[Row]) -> None:
        if self.fault:
            raise self.fault
        self.told += [(row.attempt, row.step) for row in rows]

    def conclude(self, conclusion: Conclusion) -> None: ...

    def end(self, outcome: Outcome) -> None:
        assert outcome == "paused"
        self.ended += 1
        if self.fault:
            raise self.fault


@dataclass
class Stage:
    folder: Path
    now: float = 0.0
    said: list[str] = field(default_factory=list)

    @property
    def metrics(self) -> Path:
        return self.folder / "metrics.jsonl"

    @property
    def record(self) -> Path:
        return self.folder / "tracking.json"

    def feed(self, tracker: Ledger, target: str = "here") -> Feed:
        """That of a new process."""
        choice = Choice("mlflow", target, lambda: tracker)
        rows = MetricRows(self.metrics, "learn", 0)
        return Feed(choice, rows, Record.open(self.record), lambda: self.now, self.said.append)


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


def test_a_later_attempt_goes_on_where_the_tracker_was(stage: Stage) -> None:
    write_rows(stage.metrics, range(1, 5))
    tracker = Ledger()
    stage.feed(tracker).advance()
    stage.feed(tracker).advance()
    write_rows(stage.metrics, [5, 6], attempt=2)
    stage.feed(tracker).advance()
    assert tracker.told == [(1, 1), (1, 2), (1, 3), (1, 4), (2, 5), (2, 6)]
    assert tracker.rewound == []


def test_D_steps_that_are_trained_again_are_told_again_as_those_of_the_later_attempt(stage: Stage) -> None:
    write_rows(stage.metrics, range(1, 7))
    tracker = Ledger()
    feed = stage.feed(tracker)
    feed.advance()
    write_rows(stage.metrics, [3, 4], attempt=2)
    feed.advance()
    write_rows(stage.metrics, [5, 6, 7], attempt=2)
    feed.advance()
    assert tracker.told == [*((1, n) for n in range(1, 7)), *((2, n) for n in range(3, 8))]
    assert tracker.rewound[0] == 3


def test_one_that_says_what_it_has_gets_the_rest_whatever_it_was_told(stage: Stage) -> None:
    write_rows(stage.metrics, range(1, 9))
    stage.feed(Ledger()).advance()
    lost_some = Ledger(axis=5)
    stage.feed(lost_some).advance()
    assert lost_some.told == [(1, 6), (1, 7), (1, 8)]


@pytest.mark.parametrize("fault", [TrackerAway("no answer"), TrackerRefuses("a wrong key"), RuntimeError("a bug")])
def test_one_that_does_not_take_it_is_warned_of_once_and_caught_up_later(stage: Stage, fault: Exception) -> None:
    write_rows(stage.metrics, range(1, 4))
    tracker = Ledger(fault=fault)
    feed = stage.feed(tracker)
    for stage.now in range(100):
        feed.advance()
    assert 3 <= tracker.begun <= 5, "ever later"
    assert [str(fault) in line for line in stage.said] == [True]
    assert str(fault) in read(stage.record)["mlflow"].warning
    tracker.fault = None
    write_rows(stage.metrics, [4])
    stage.now += 300
    feed.advance()
    assert tracker.told == [(1, 1), (1, 2), (1, 3), (1, 4)]
    assert read(stage.record)["mlflow"].warning == ""


def test_H_what_a_library_says_reaches_neither_the_log_nor_the_status_with_a_key_in_it(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "s3cret-key")
    write_rows(stage.metrics, range(1, 3))
    stage.feed(Ledger(fault=TrackerRefuses("the key s3cret-key is not known"))).advance()
    told = read(stage.record)["mlflow"].warning
    assert "the key *** is not known" in told
    assert stage.said == [f"WARNING: {told}"]


def test_one_that_goes_away_in_between_is_told_what_it_did_not_take(stage: Stage) -> None:
    write_rows(stage.metrics, [1, 2])
    tracker = Ledger()
    feed = stage.feed(tracker)
    feed.advance()
    tracker.fault = TrackerAway("gone")
    write_rows(stage.metrics, [3, 4])
    feed.advance()
    assert tracker.ended == 1, "what its library holds would stay beside that of the next try"
    tracker.fault = None
    stage.now += 300
    feed.advance()
    assert tracker.told == [(1, 1), (1, 2), (1, 3), (1, 4)]
    assert (tracker.begun, tracker.ended) == (2, 1)


def test_another_project_gets_all_of_it(stage: Stage) -> None:
    write_rows(stage.metrics, [1, 2])
    stage.feed(Ledger()).advance()
    other = Ledger()
    stage.feed(other, target="elsewhere").advance()
    assert other.told == [(1, 1), (1, 2)]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"mlflow": 7}', '{"mlflow": {"step": "x", "attempt": null}}'])
def test_a_damaged_record_tells_all_again(stage: Stage, text: str) -> None:
    write_rows(stage.metrics, [1, 2])
    stage.record.write_text(text)
    tracker = Ledger()
    stage.feed(tracker).advance()
    assert tracker.told == [(1, 1), (1, 2)]
    assert json.loads(stage.record.read_text())["mlflow"]["link"] == "http://tracker/run"
