"""What was refused is tried ever later, and room goes to who waits longest."""

from datetime import timedelta

import pytest

from slipway_operator.cache.key import Key
from slipway_operator.cache.waiting_line import ROOM, WaitingLine

A, B = Key("TrainingRun", "team", "a"), Key("TrainingRun", "team", "b")


def a_line(jitter: float = 0.0) -> WaitingLine:
    return WaitingLine(lambda: jitter)


def refused(line: WaitingLine, key: Key, created: int = 1, generation: int = 1, reason: str = ROOM) -> float:
    return line.refused(key, reason, created=f"2026-01-01T00:00:{created:02}Z", generation=generation).total_seconds()


def test_it_is_tried_twice_as_late_each_time_up_to_ten_minutes():
    line = a_line()
    refused(line, A, 1)
    assert [refused(line, B, 2) for _ in range(8)] == [15, 30, 60, 120, 240, 480, 600, 600]


def test_who_waits_longest_finds_out_within_a_minute_what_no_event_tells():
    line = a_line()
    assert [refused(line, A) for _ in range(5)] == [15, 30, 60, 60, 60]


@pytest.mark.parametrize(("jitter", "seconds"), [(0.0, 15), (1.0, 22.5)])
def test_no_two_are_tried_in_step(jitter: float, seconds: float):
    assert refused(a_line(jitter), A) == seconds


def test_an_edit_of_the_spec_begins_anew():
    line = a_line()
    refused(line, B, 1)
    for _ in range(4):
        refused(line, A, 2)
    assert refused(line, A, 2, generation=2) == 15


def test_room_is_for_the_oldest_whoever_was_refused_first():
    line = a_line()
    refused(line, B, 2)
    refused(line, A, 1)
    assert line.first("team") == A
    line.leave(A)
    assert line.first("team") == B
    line.leave(B)
    assert line.first("team") is None


def test_no_room_helps_who_was_refused_for_something_else():
    line = a_line()
    refused(line, A, reason="Invalid")
    assert line.first("team") is None


def test_5000_that_wait_ask_seldom():
    line = a_line(0.5)
    keys = [Key("TrainingRun", "team", f"run-{index}") for index in range(5000)]
    for _ in range(7):
        later = [refused(line, key, index % 60) for index, key in enumerate(keys)]
    assert sum(1 / seconds for seconds in later) < 8, "requests a second; every 15 s they were 333"
    assert timedelta(seconds=min(later)) >= timedelta(minutes=1)
