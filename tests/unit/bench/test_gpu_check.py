"""What the check for a GPU counts and shows. All of it runs, with tiny models, in tests/integration/bench."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from bench.gpu import report
from bench.gpu.budget import Budget, share
from bench.gpu.sizes import FULL, TINY, Shape

ROOT = Path(__file__).parents[3]


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_piece_that_no_longer_fits_is_left_out_and_named() -> None:
    clock = Clock()
    budget = Budget(60, clock)
    assert budget.has_room_for("first")
    clock.now += 25
    budget.spent(25)
    assert budget.has_room_for("second")
    clock.now += 20
    budget.spent(20)
    assert not budget.has_room_for("third"), "15 s are left, and the first took 25"
    assert budget.left == 15
    assert budget.left_out == ["third"]


def test_a_part_without_time_begins_nothing() -> None:
    assert not Budget(0, Clock()).has_room_for("anything")


def test_what_a_part_leaves_is_the_others() -> None:
    # Of 100 s the first has 20; it took 5, and 95 are shared by the others.
    assert share(100, [0.2, 0.4, 0.4]) == pytest.approx(20)
    assert share(95, [0.4, 0.4]) == pytest.approx(47.5)
    assert share(50, [0.4]) == pytest.approx(50)


@pytest.mark.parametrize("shape", [*FULL.shapes, *TINY.shapes], ids=lambda shape: shape.name)
def test_the_weights_are_those_of_the_model(shape: Shape) -> None:
    import torch
    from transformers import LlamaForCausalLM

    with torch.device("meta"):
        model = LlamaForCausalLM(shape.config(64))
    assert sum(weight.numel() for weight in model.parameters()) == shape.parameters


def test_operations_are_those_of_every_matrix_product() -> None:
    """Counted by torch, on a document that a small model computes with the whole square of its attention."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode
    from transformers import LlamaForCausalLM

    shape, tokens = Shape("counted", 2, 64, 4, 2, 128, 320), 48
    config = shape.config(64)
    config._attn_implementation = "eager"
    model = LlamaForCausalLM(config)
    with FlopCounterMode(display=False) as counter:
        model(input_ids=torch.arange(tokens)[None], use_cache=False).logits.sum().backward()
    # A norm has weights and no product.
    norms = 6 * tokens * (2 * shape.layers + 1) * shape.hidden
    half_square = 6 * shape.layers * shape.hidden * tokens * tokens
    assert shape.operations([tokens]) - norms + half_square == pytest.approx(counter.get_total_flops(), rel=1e-3)


def test_frozen_weights_take_two_thirds() -> None:
    shape = TINY.shapes[0]
    whole, adapted = shape.operations([10]), shape.operations([10], adapter=100)
    attention = 6 * shape.layers * shape.hidden * 100
    assert whole - attention == 60 * shape.parameters
    assert adapted - attention == 40 * shape.parameters + 6000


def speed(contender: str, **row: Any) -> dict[str, Any]:
    known = {"kind": "speed", "model": "1.2B", "rows": 2048, "trains": "all weights", "contender": contender}
    return known | {"estimated_bytes": 3 << 30, "rows_at_once": 8, "precision": "BF16", "note": "attention x"} | row


def test_the_page_names_what_was_found_and_what_was_not() -> None:
    measured = {"tokens_per_second": 50_000.0, "flops_per_second": 4e14, "peak_bytes": 2 << 30}
    rows = [
        {"kind": "check", "name": "packed rows", "passed": True, "found": "off by 1e-6"},
        speed("slipway", **measured),
        speed("bare loop", **measured | {"tokens_per_second": 40_000.0}),
        speed("Trainer", failed="out of memory with 8 rows at once"),
        {"kind": "stall", "model": "1.2B", "bytes": 4e9, "whole": 5.0, "stall": 0.25, "first": 0.5},
        {"kind": "left out", "what": "LoRA: no time was left"},
    ]
    machine = {"device": "A card", "flops": 1e15, "versions": {"torch": "2.11.0"}}
    page = report.markdown(machine, rows, 432.1)
    assert "A card; torch 2.11.0; 432 s" in page
    assert "| packed rows | yes | off by 1e-6 |" in page
    assert "| slipway | 50,000 | 40.0% |  | 2.00 GiB | 3.00 GiB (1.50) |" in page
    assert "| bare loop | 40,000 | 40.0% | 1.25 times as fast |" in page
    assert "out of memory with 8 rows at once" in page
    assert "| 1.2B | 4.00 | 5.00 | 0.250 | 0.500 | 5% |" in page
    assert "- left out: LoRA: no time was left" in page
    assert not report.passed(rows), "the Trainer was not measured"
    assert report.passed([row for row in rows if "failed" not in row]), "what had no time is no failure"
    assert not report.passed([{"kind": "check", "passed": False}])
    assert not report.passed([{"kind": "broken", "part": "speed-0"}])


def test_all_that_is_brought_is_pinned() -> None:
    named = [line for line in (ROOT / "bench/gpu/packages.txt").read_text().splitlines() if not line.startswith("#")]
    pinned = set(re.findall(r"^([a-z0-9-]+)==", (ROOT / "requirements/cuda.txt").read_text(), re.MULTILINE))
    assert named == sorted(set(named))
    assert set(named) <= pinned
