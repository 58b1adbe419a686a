"""How the learning rate moves."""

import math

import pytest

from slipway_core.resources.optimizer import Optimizer
from slipway_trainer.training.schedule import learning_rate


def rates(total: int, **settings: object) -> list[float]:
    optimizer = Optimizer(learning_rate=1.0, **settings)  # type: ignore[arg-type]
    return [learning_rate(step, total, optimizer) for step in range(total)]


@pytest.mark.parametrize("schedule", ["Cosine", "Linear", "Constant", "WSD"])
def test_warm_up_rises_to_the_peak_and_no_step_learns_nothing(schedule: str) -> None:
    found = rates(20, schedule=schedule, warmup_ratio=0.25)
    assert found[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert all(rate > 0 for rate in found)
    assert found[5:] == sorted(found[5:], reverse=True)


def test_linear_falls_by_the_same_amount_and_cosine_is_half_way_in_the_middle() -> None:
    linear = rates(9, schedule="Linear", warmup_ratio=0.0)
    assert linear == pytest.approx([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1])
    assert rates(9, schedule="Cosine", warmup_ratio=0.0)[4] == pytest.approx(0.5)


ROOTS = [1 - math.sqrt(done / 5) for done in (1, 2, 3, 4)]
"""Of four falling steps; the fifth would be at the end."""


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"warmup_ratio": 0.2, "decay_ratio": 0.4}, [0.5, 1, 1, 1, 1, 1, *ROOTS]),
        ({"warmup_ratio": 0.2, "decay_ratio": 0.4, "min_learning_rate_ratio": 0.5},
         [0.5, 1, 1, 1, 1, 1, *(0.5 + rate / 2 for rate in ROOTS)]),
        ({"warmup_ratio": 0.0}, [1] * 8 + [1 - math.sqrt(1 / 3), 1 - math.sqrt(2 / 3)]),
        ({"warmup_ratio": 0.0, "decay_ratio": 0.01}, [1] * 9 + [1 - math.sqrt(1 / 2)]),
        ({"warmup_ratio": 0.6, "decay_ratio": 0.4}, [1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6, 1, *ROOTS]),
        # What the warm-up leaves is less than the default.
        ({"warmup_ratio": 0.9}, [*(step / 9 for step in range(1, 10)), 1 - math.sqrt(1 / 2)]),
        ({"warmup_ratio": 1.0}, [step / 10 for step in range(1, 11)]),
    ],
)  # fmt: skip
def test_wsd_stays_at_the_peak_and_falls_by_the_root(settings: dict[str, float], expected: list[float]) -> None:
    assert rates(10, schedule="WSD", **settings) == pytest.approx(expected)


def test_constant_stays_and_a_floor_holds() -> None:
    assert set(rates(9, schedule="Constant", warmup_ratio=0.0)) == {1.0}
    assert min(rates(50, schedule="Cosine", warmup_ratio=0.0, min_learning_rate_ratio=0.4)) >= 0.4


def test_one_step_is_a_whole_stage() -> None:
    assert rates(1, warmup_ratio=0.03) == [1.0]
    assert rates(3, warmup_ratio=1.0) == pytest.approx([1 / 3, 2 / 3, 1.0])
