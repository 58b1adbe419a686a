"""What was decided for a number of processes, and what stays of it when there are others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.unit.trainer.tracking.runs import a_plan

from slipway_core.protocol.step_result import StepResult
from slipway_core.protocol.workspace import Workspace
from slipway_trainer.step.errors import OutOfMemory, Superseded
from slipway_trainer.step.fence import Fence
from slipway_trainer.training import resolved, train
from slipway_trainer.training.resolved import Resolved

TWO = Resolved(
    precision="BF16",
    zero_stage=2,
    micro_batch=8,
    gradient_checkpointing=True,
    attention="sdpa",
    target_modules=["q_proj"],
    world_size=2,
    sequences=16,
    total_rows=160,
    total_steps=10,
    data_digest="sha256:0",
    reasons={"zeroStage": "fits", "batch.microSequences": "8 rows", "precision": "set in the plan"},
)
FITS = {"zeroStage": "fits in pieces", "batch.microSequences": "4 rows"}


def test_only_what_fits_is_another_one() -> None:
    four = TWO.for_processes(
        4, attempt=3, zero_stage=3, micro_batch=4, gradient_checkpointing=False, compile=False, reasons=FITS
    )
    assert (four.world_size, four.attempt, four.zero_stage, four.micro_batch) == (4, 3, 3, 4)
    assert not four.gradient_checkpointing
    assert four.reasons == FITS | {"precision": "set in the plan"}
    fixed = ("precision", "attention", "target_modules", "sequences", "total_rows", "total_steps", "data_digest")
    assert [getattr(four, name) for name in fixed] == [getattr(TWO, name) for name in fixed]


def test_who_decided_what_for_which_number_of_processes_stays_to_be_seen(tmp_path: Path) -> None:
    four = TWO.for_processes(
        4, attempt=3, zero_stage=3, micro_batch=4, gradient_checkpointing=False, compile=False, reasons=FITS
    )
    again = four.for_processes(
        2, attempt=5, zero_stage=1, micro_batch=8, gradient_checkpointing=False, compile=False, reasons=FITS
    )
    again.write(tmp_path / "resolved.json")
    assert resolved.read(tmp_path / "resolved.json") == again
    seen = [
        (one["attempt"], one["world_size"], one["zero_stage"], one["reasons"]["zeroStage"]) for one in again.history
    ]
    assert seen == [(1, 2, 2, "fits"), (3, 4, 3, "fits in pieces")]


def test_a_file_of_a_version_that_kept_no_history_is_read(tmp_path: Path) -> None:
    path = tmp_path / "resolved.json"
    TWO.write(path)
    old = json.loads(path.read_text())
    del old["history"], old["attempt"]
    path.write_text(json.dumps(old))
    assert resolved.read(path) == TWO


def test_an_attempt_that_was_taken_over_halves_nothing_of_the_newer_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, workspace = a_plan(), Workspace(tmp_path)
    decided = workspace.stage("learn").resolved
    decided.parent.mkdir(parents=True)
    TWO.write(decided)

    def runs_out(*_: Any) -> StepResult:
        Fence(workspace.fence("learn"), 2).raise_()
        raise OutOfMemory("out of memory")

    monkeypatch.setattr(train, "_once", runs_out)
    with pytest.raises(Superseded, match="attempt 2 has taken over from attempt 1"):
        train.run(plan, workspace, stage="learn", attempt=1)
    assert resolved.read(decided) == TWO
