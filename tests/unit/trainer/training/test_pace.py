"""How fast training goes and what its time is spent on, by a clock that is told."""

from __future__ import annotations

import pytest

from slipway_trainer.training.pace import RECENT_STEPS, Pace


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def made(**given: object) -> tuple[Pace, Clock]:
    clock = Clock()
    pace = Pace(clock=clock, **given)  # type: ignore[arg-type]
    pace.begin()
    return pace, clock


def test_speed_is_of_training_alone_and_shares_are_of_all_its_time() -> None:
    pace, clock = made(tells_communication=True)
    with pace.on("data"):
        clock.now += 1
    clock.now += 5
    with pace.on("communication"):
        clock.now += 2
    pace.done(tokens=800)
    assert pace.tokens_per_second == 100
    with pace.on("validation"):
        clock.now += 3
    with pace.on("checkpoint"):
        clock.now += 1
    clock.now += 8
    pace.done(tokens=800)
    assert pace.tokens_per_second == 100, "validation and checkpoints are no training"
    assert pace.seconds_for(10) == 80
    assert pace.shares() == pytest.approx(
        {"compute": 0.65, "data": 0.05, "communication": 0.1, "validation": 0.15, "checkpoint": 0.05}
    )


def test_what_nobody_counts_is_not_told() -> None:
    pace, clock = made()
    with pace.on("communication"):
        clock.now += 1
    pace.done(tokens=10)
    assert pace.shares() == {"compute": 1, "data": 0, "validation": 0, "checkpoint": 0}
    assert pace.utilisation is None


def test_a_collective_within_a_checkpoint_is_the_checkpoints() -> None:
    pace, clock = made(tells_communication=True)
    with pace.on("checkpoint"):
        clock.now += 1
        with pace.on("communication"):
            clock.now += 1
        clock.now += 1
    clock.now += 1
    pace.done(tokens=1)
    assert pace.shares()["checkpoint"] == 0.75
    assert pace.shares()["communication"] == 0


def test_only_the_last_steps_count_but_for_the_whole() -> None:
    pace, clock = made()
    for number in range(2 * RECENT_STEPS):
        with pace.on("data"):
            clock.now += number < RECENT_STEPS
        clock.now += 1
        pace.done(tokens=50)
    assert pace.tokens_per_second == 50
    assert pace.shares()["data"] == 0
    assert pace.shares_of_all()["data"] == pytest.approx(1 / 3)


def test_utilisation_is_of_what_the_devices_can_do() -> None:
    pace, clock = made(peak_operations=1000.0)
    clock.now += 2
    pace.done(tokens=1, operations=900.0)
    with pace.on("checkpoint"):
        clock.now += 50
    clock.now += 1
    pace.done(tokens=1, operations=300.0)
    assert pace.utilisation == pytest.approx(0.4)


def test_what_came_before_the_training_is_no_part_of_its_time() -> None:
    pace, clock = made(tells_communication=True)
    with pace.on("communication"):
        clock.now += 9
    pace.begin()
    clock.now += 1
    pace.done(tokens=1)
    assert pace.shares()["communication"] == 0


def test_before_the_first_step_nothing_is_known() -> None:
    pace, _ = made(peak_operations=1.0)
    assert (pace.tokens_per_second, pace.utilisation, pace.shares()) == (None, None, {})
