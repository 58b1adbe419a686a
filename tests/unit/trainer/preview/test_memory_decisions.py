"""What is chosen for usual models on usual devices: never worse with more of them, and never above the limit."""

from itertools import pairwise, product
from pathlib import Path

import pytest

from slipway_trainer.preview import memory_decisions
from slipway_trainer.preview.memory_decisions import DEVICES, GIGABYTES, Decision, decide, sizes
from slipway_trainer.training import memory

SIZES = sizes()
WORST = (99, True, 99)


def slowness(found: Decision | None) -> tuple[int, bool, int]:
    return WORST if found is None else found.slowness


def rows(found: Decision | None) -> int:
    return 0 if found is None else found.micro_batch


@pytest.mark.parametrize("name", SIZES)
def test_nothing_that_is_chosen_is_above_the_limit(name: str) -> None:
    for gigabytes, devices in product(GIGABYTES, DEVICES):
        found = decide(SIZES[name], gigabytes, devices)
        assert found is None or found.table.device <= memory.USABLE * gigabytes * 10**9
        assert devices > 1 or found is None or found.zero_stage < 3 or found.offload == "All"


@pytest.mark.parametrize("name", SIZES)
def test_more_memory_and_more_devices_never_choose_what_is_slower(name: str) -> None:
    for devices in DEVICES:
        for less, more in pairwise(decide(SIZES[name], gigabytes, devices) for gigabytes in GIGABYTES):
            assert slowness(more) <= slowness(less)
            # More rows at once count only beside the same way to train.
            assert slowness(more) < slowness(less) or rows(more) >= rows(less)
    for gigabytes in GIGABYTES:
        for fewer, more in pairwise(decide(SIZES[name], gigabytes, devices) for devices in DEVICES):
            # To divide more is what there are more devices for: one that shares has buffers that one alone has not.
            assert slowness(more)[:2] <= slowness(fewer)[:2]


@pytest.mark.parametrize("gigabytes", GIGABYTES)
def test_a_larger_model_is_never_trained_faster(gigabytes: int) -> None:
    for devices in DEVICES:
        for smaller, larger in pairwise(decide(size, gigabytes, devices) for size in SIZES.values()):
            assert slowness(larger) >= slowness(smaller)


@pytest.mark.parametrize(
    ("name", "gigabytes", "devices", "expected"),
    [
        ("0.1B", 24, 1, (0, False, 1)),
        ("1.2B", 80, 1, (0, False, 1)),
        ("8B", 80, 8, (0, False, 2)),
        ("70B", 80, 64, (0, True, 3)),
    ],
)
def test_these_are_chosen(name: str, gigabytes: int, devices: int, expected: tuple[int, bool, int]) -> None:
    assert slowness(decide(SIZES[name], gigabytes, devices)) == expected


def test_the_page_has_the_tables_of_now() -> None:
    page = Path(__file__).parents[4] / memory_decisions.PAGE
    text = page.read_text(encoding="utf-8")
    assert memory_decisions.written(text) == text, "run make generate"
    assert memory_decisions.BEGIN in text
