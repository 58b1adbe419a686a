"""D: a stage that goes on with another number of processes, and under another ZeRO stage, learns what it would have."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.integration.trainer.nursery import Nursery
from tests.integration.trainer.test_train_processes import back_to
from tests.integration.trainer.training import PRETRAIN, Training, make

from slipway_trainer.tokens import tokenizer
from slipway_trainer.training.checkpoints import checkpoint_files

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

EVERY_TWO = {"checkpoints": {"everySteps": 2, "keep": 9}}


def in_turn(ranks: Nursery, run: Training, engines: list[tuple[int | None, int]]) -> None:
    """Trains two steps with each of some engines, and to the end with the last.

    Args:
        engines: ZeRO stage (None: the one that was decided) and processes.
    """
    for number, (zero_stage, world) in enumerate(engines):
        if number:
            back_to(run, 2 * number)
        if zero_stage is not None and number:
            decide(run, zero_stage=zero_stage, world_size=world)
        ranks.train(run, world=world, attempt=number + 1)


def decide(run: Training, **decided: Any) -> None:
    path = run.folder().resolved
    path.write_text(json.dumps(json.loads(path.read_text()) | decided))


def learning(zero_stage: Any, precision: str = "FP32", **settings: Any) -> dict[str, Any]:
    return PRETRAIN | {"steps": 12, "precision": precision, "memory": {"zeroStage": zero_stage}} | settings


@pytest.fixture(scope="module")
def undisturbed(ranks: Nursery, tmp_path_factory: pytest.TempPathFactory) -> Training:
    run = make(tmp_path_factory.mktemp("undisturbed"), learning(0))
    ranks.train(run)
    return run


@pytest.mark.parametrize("zero_stage", [0, 1, 2, 3])
def test_D_any_number_of_processes_goes_on_with_any_other(
    ranks: Nursery, undisturbed: Training, tmp_path: Path, zero_stage: int
) -> None:
    run = make(tmp_path, learning(zero_stage), **EVERY_TWO)
    in_turn(ranks, run, [(None, world) for world in (2, 1, 2, 4, 2, 3)])
    assert run.losses() == pytest.approx(undisturbed.losses(), abs=1e-5)
    assert run.metrics()[-1]["tokens"] == undisturbed.metrics()[-1]["tokens"]


ALL = [(0, 1), (2, 2), (3, 2), (1, 3), (3, 1), (0, 2)]
"""ZeRO stage and processes, from each stage to others, with and without another number of processes."""


def test_D_any_zero_stage_goes_on_under_any_other(ranks: Nursery, undisturbed: Training, tmp_path: Path) -> None:
    run = make(tmp_path, learning(0), **EVERY_TWO)
    in_turn(ranks, run, ALL)
    assert run.losses() == pytest.approx(undisturbed.losses(), abs=1e-5)


IN_BF16 = {
    "fixed-1": [(1, 2), (1, 1), (1, 3)],
    "fixed-3": [(3, 2), (3, 1), (3, 3)],
    "any": [(0, 1), (3, 2), (2, 3), (0, 2), (1, 1)],
}


def test_D_in_bf16_no_more_is_lost_than_another_number_of_processes_changes(ranks: Nursery, tmp_path: Path) -> None:
    """Its noise: by how much the losses of undisturbed runs of one, two and three processes differ."""
    apart = [make(tmp_path / str(world), learning(1, "BF16")) for world in (1, 2, 3)]
    for number, run in enumerate(apart):
        ranks.train(run, world=number + 1)
    noise = max(furthest(one, other) for one in apart for other in apart)
    assert 0 < noise < 0.02
    for name, engines in IN_BF16.items():
        run = make(tmp_path / name, learning(engines[0][0], "BF16"), **EVERY_TWO)
        in_turn(ranks, run, engines)
        found = min(furthest(run, undisturbed) for undisturbed in apart)
        print(f"undisturbed runs differ by {noise:.1e}, {name} by {found:.1e}")
        assert found <= 1.5 * noise, name


def furthest(one: Training, other: Training) -> float:
    return max(abs(loss - its) for loss, its in zip(one.losses(), other.losses(), strict=True))


ADAPTER = {"adapter": {"method": "LoRA", "rank": 4, "dropout": 0}}


def test_D_an_adapter_goes_on_beside_a_base_that_is_frozen(ranks: Nursery, tmp_path: Path) -> None:
    base = make(tmp_path / "base")
    ranks.train(base)
    tokenizer.load(base.workspace).save_pretrained(str(base.folder().model))
    model = {"from": f"file://{base.folder().model}"}
    undisturbed = make(tmp_path / "undisturbed", learning(0) | ADAPTER, model=model)
    ranks.train(undisturbed)
    run = make(tmp_path / "run", learning(1) | ADAPTER, model=model, **EVERY_TWO)
    in_turn(ranks, run, [(1, 2), (3, 2), (3, 3), (0, 1), (3, 2), (2, 1)])
    assert run.losses() == pytest.approx(undisturbed.losses(), abs=1e-5)


def test_D_muon_goes_on_with_matrices_that_lie_on_other_ranks(ranks: Nursery, tmp_path: Path) -> None:
    muon = {"optimizer": {"name": "Muon", "learningRate": 3e-3}}
    undisturbed = make(tmp_path / "undisturbed", learning(0) | muon)
    ranks.train(undisturbed)
    run = make(tmp_path / "run", learning(0) | muon, **EVERY_TWO)
    in_turn(ranks, run, [(0, 1), (1, 2), (2, 3), (0, 2), (2, 1)])
    assert run.losses() == pytest.approx(undisturbed.losses(), abs=1e-5)


def test_D_the_best_weights_of_another_number_of_processes_are_found(ranks: Nursery, tmp_path: Path) -> None:
    """Their checkpoint is of step 2, written by two processes under ZeRO-3; the end is under ZeRO 1 in one."""
    worse = {"optimizer": {"learningRate": 3e-3, "schedule": "Constant"}, "select": "Best"}
    data = {"data": {"validation": {"fraction": 0.2, "everySteps": 2}}}
    run = make(tmp_path, learning(3, steps=4) | worse | data, **EVERY_TWO)
    ranks.train(run, world=2)
    back_to(run, 2)
    state = run.folder().checkpoint(2) / checkpoint_files.STATE
    best = json.loads(state.read_text()) | {"best_loss": 0.0, "lowest_loss": 0.0}
    written = checkpoint_files.write_text(state, json.dumps(best))
    manifest = state.with_name(checkpoint_files.MANIFEST)
    listed = json.loads(manifest.read_text())
    listed["files"][checkpoint_files.STATE] = written.model_dump()
    manifest.write_text(json.dumps(listed))
    expected = {
        number: torch.load(state.with_name(f"rank-0000{number}.pt"), weights_only=False)["optimizer"][
            "fp32_flat_groups"
        ]
        for number in (0, 1)
    }
    decide(run, zero_stage=1, world_size=1)
    group = ranks.start(run, attempt=2)
    group.finish()
    assert group.result().metrics["selected_step"] == 2
    norms = load_file(run.folder().model / "model.safetensors")
    # The smallest weights, of 32 elements, are at the end of each rank's second buffer.
    assert torch.equal(norms["model.norm.weight"], torch.cat([expected[rank][1][-16:] for rank in (0, 1)]))


def test_D_what_fits_is_decided_anew_and_what_was_stays_to_be_seen(
    ranks: Nursery, undisturbed: Training, tmp_path: Path
) -> None:
    run = make(tmp_path, learning("Auto"), **EVERY_TWO)
    in_turn(ranks, run, [(None, 2), (3, 2)])
    first = json.loads(run.folder().resolved.read_text())
    back_to(run, 4)
    alone = ranks.start(run, attempt=3)
    alone.finish()
    assert "began with 2 process(es), goes on with 1" in alone.said()
    assert "ZeRO stage 0 over 1 process(es): one process has nothing to share" in alone.said()
    assert "was written by 2 process(es) under ZeRO 3 and goes on by 1 process(es) under ZeRO 0" in alone.said()
    back_to(run, 6)
    ranks.train(run, world=2, attempt=4)
    assert run.losses() == pytest.approx(undisturbed.losses(), abs=1e-5)
    decided = json.loads(run.folder().resolved.read_text())
    assert (decided["world_size"], decided["attempt"], decided["zero_stage"]) == (2, 4, 0)
    assert [(one["world_size"], one["attempt"], one["zero_stage"]) for one in decided["history"]] == [
        (2, 1, 3),
        (1, 3, 0),
    ]
    assert "fit into" in decided["history"][0]["reasons"]["zeroStage"]
    assert decided["history"][1]["reasons"]["zeroStage"] == "one process has nothing to share"
    fixed = ("precision", "sequences", "total_rows", "total_steps", "data_digest", "packed", "versions")
    assert {name: decided[name] for name in fixed} == {name: first[name] for name in fixed}


def test_D_moments_of_8_bits_stay_under_the_stage_that_has_them(ranks: Nursery, tmp_path: Path) -> None:
    """Whole on every process without ZeRO, they go on with any number of these, whatever would fit better."""
    moments = {"optimizer": {"name": "AdamW8bit", "learningRate": 3e-3}}
    run = make(tmp_path, learning("Auto", "BF16") | moments, **EVERY_TWO)
    ranks.train(run, world=2)
    assert json.loads(run.folder().resolved.read_text())["zero_stage"] == 1
    whole = run.losses()
    decide(run, zero_stage=0)
    for path in run.folder().checkpoints.glob("step-*"):
        shutil.rmtree(path)
    run.folder().done.unlink()
    ranks.train(run, world=2, attempt=2)
    back_to(run, 4)
    ranks.train(run, world=1, attempt=3)
    decided = json.loads(run.folder().resolved.read_text())
    assert decided["zero_stage"] == 0
    assert "cannot be cut anew" in decided["reasons"]["zeroStage"]
    assert run.losses() == pytest.approx(whole, abs=0.02)
