"""Rows of a file that grows, and that an attempt from a checkpoint puts another one in the place of."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.trainer.tracking.metrics_file import write_rows

from slipway_core.protocol.workspace import Workspace
from slipway_trainer.tracking.metric_rows import MetricRows, last_step, steps_before


def steps(rows: MetricRows) -> list[tuple[int, int]]:
    found, more = rows.fresh()
    assert not more
    return [(row.attempt, row.step) for row in found]


def test_each_row_is_read_once(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    rows = MetricRows(path, "learn", before=100)
    assert steps(rows) == []
    write_rows(path, [1, 2])
    found, _ = rows.fresh()
    assert [(row.step, row.axis, dict(row.values)) for row in found] == [
        (1, 101, {"learn/loss": 1.0, "learn/attempt": 1.0}),
        (2, 102, {"learn/loss": 0.5, "learn/attempt": 1.0}),
    ]
    assert found[0].seconds == 1.7e9 + 1
    assert steps(rows) == []


def test_a_line_that_is_being_written_waits(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "loss": 1.0}\n{"step": 2, "lo')
    rows = MetricRows(path, "learn", 0)
    assert steps(rows) == [(0, 1)]
    with path.open("a") as file:
        file.write('ss": 0.5}\n')
    assert steps(rows) == [(0, 2)]


def test_the_file_of_an_attempt_that_goes_on_is_read_from_its_start(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    write_rows(path, [1, 2, 3, 4])
    rows = MetricRows(path, "learn", 0)
    assert len(steps(rows)) == 4
    write_rows(path, [3, 4, 5], attempt=2)
    assert steps(rows) == [(1, 1), (1, 2), (2, 3), (2, 4), (2, 5)]


@pytest.mark.parametrize("line", ["not json", "[]", '{"loss": 1}', '{"step": "x"}', "\xff"])
def test_what_is_no_row_is_passed_over(tmp_path: Path, line: str) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text(f'{line}\n{{"step": 1, "loss": NaN, "tokens": 8, "up": true}}\n')
    found, _ = MetricRows(path, "learn", 0).fresh()
    assert [dict(row.values) for row in found] == [{"learn/tokens": 8.0}]


def test_a_long_file_comes_in_pieces(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(f'{{"step": {n}, "loss": {n / 7}}}\n' for n in range(1, 60_001)))
    rows, found, pieces, more = MetricRows(path, "learn", 0), [], 0, True
    while more:
        piece, more = rows.fresh()
        found += piece
        pieces += 1
    assert pieces > 1
    assert [row.step for row in found] == list(range(1, 60_001))
    assert last_step(path) == 60_000


def test_the_axis_goes_on_from_stage_to_stage(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    write_rows(workspace.stage("a").metrics, range(1, 8))
    write_rows(workspace.stage("b").metrics, range(1, 4))
    assert [steps_before(workspace, ["a", "b", "c"], name) for name in ("a", "b", "c")] == [0, 7, 10]
