"""Stages that learn which of two answers is the better one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.integration.trainer.nursery import Nursery
from tests.integration.trainer.test_train import crash
from tests.integration.trainer.test_train_processes import two_processes
from tests.integration.trainer.training import make

from slipway_trainer.batches.shards import Shards
from slipway_trainer.training.checkpoints.train_state import TrainState

PREFER: dict[str, Any] = {
    "name": "pretrain",
    "objective": "Preference",
    "maxLength": 64,
    "steps": 6,
    "batch": {"sequences": 4},
    "optimizer": {"learningRate": 3e-3},
    "data": {"validation": {"fraction": 0.25, "everySteps": 3}},
}
EVERY_STEP = {"checkpoints": {"everySteps": 2}}


@pytest.mark.parametrize("loss", ["DPO", "IPO", "SimPO"])
def test_a_stage_learns_what_is_preferred(tmp_path: Path, loss: str) -> None:
    run = make(tmp_path, PREFER | {"steps": 30, "preference": {"loss": loss}})
    run.train()
    rows = run.metrics()
    if loss != "SimPO":
        assert rows[0]["margin"] == pytest.approx(0, abs=1e-3)
    assert rows[-1]["accuracy"] > 0.9
    assert rows[-1]["margin"] > rows[0]["margin"] + 0.1
    assert rows[-1]["loss"] < rows[0]["loss"]
    assert [row["step"] for row in rows if row["validation_accuracy"] is not None] == list(range(3, 31, 3))
    assert run.folder().reference.exists() == (loss != "SimPO")


@pytest.mark.parametrize("adapter", [None, {"rank": 4}])
def test_a_killed_stage_goes_on_bit_for_bit_with_the_same_reference(tmp_path: Path, adapter: Any) -> None:
    stage = PREFER | ({"adapter": adapter} if adapter else {})
    whole = make(tmp_path / "whole", stage, **EVERY_STEP)
    whole.train()
    killed = make(tmp_path / "killed", stage, **EVERY_STEP)
    crash(killed, at=5)
    written = killed.folder().reference.stat().st_mtime_ns
    killed.train(attempt=2)
    assert killed.folder().reference.stat().st_mtime_ns == written
    figures = ("loss", "margin", "accuracy", "validation_loss", "validation_accuracy")
    assert [[row[name] for name in figures] for row in killed.metrics()] == [
        [row[name] for name in figures] for row in whole.metrics()
    ]


def test_a_reference_of_other_weights_is_made_anew(tmp_path: Path) -> None:
    run = make(tmp_path, PREFER)
    run.train()
    with np.load(run.folder().reference) as file:
        key, said = str(file["key"]), file["train"]
    assert said.shape == (Shards.open(run.folder().data("train")).n_documents, 2)
    other = make(tmp_path / "other", PREFER | {"seed": 1})
    other.folder().root.mkdir(exist_ok=True)
    other.folder().reference.write_bytes(run.folder().reference.read_bytes())
    other.train()
    with np.load(other.folder().reference) as file:
        assert str(file["key"]) != key
    damaged = make(tmp_path / "damaged", PREFER)
    damaged.folder().reference.write_bytes(run.folder().reference.read_bytes()[:100])
    damaged.train()
    assert damaged.losses() == run.losses()


def test_select_best_takes_the_highest_accuracy_and_of_equals_the_lowest_loss() -> None:
    def measured(accuracy: float, loss: float) -> bool:
        return TrainState(
            validation_loss=loss, validation_accuracy=accuracy, best_step=1, best_loss=0.5, best_accuracy=0.8
        ).is_better

    assert measured(0.9, 0.7)
    assert measured(0.8, 0.4)
    assert not measured(0.8, 0.5)
    assert not measured(0.7, 0.1)
    assert TrainState(validation_loss=0.4, best_loss=0.5).is_better
    assert not TrainState(validation_loss=0.6, best_loss=0.5).is_better


def test_a_stage_ends_with_the_weights_of_the_highest_accuracy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured = iter([[0.6, 0.1, 0.5], [0.7, 0.1, 0.9], [0.4, 0.1, 0.8]])
    monkeypatch.setattr("slipway_trainer.training.validation.ValidationSet.figures", lambda *_: next(measured))
    data = {"validation": {"fraction": 0.25, "everySteps": 2}}
    result = make(tmp_path, PREFER | {"select": "Best", "data": data}, **EVERY_STEP).train()
    figures = ("selected_step", "validation_accuracy", "validation_loss")
    assert [result.metrics[name] for name in figures] == [4, 0.9, 0.7]


def test_two_processes_learn_what_one_does(ranks: Nursery, tmp_path: Path) -> None:
    stages = {
        "full": PREFER | {"steps": 3},
        "sharded": PREFER | {"steps": 3, "adapter": {"rank": 4}, "memory": {"zeroStage": 3}},
    }
    both = {name: make(tmp_path / f"two-{name}", stage) for name, stage in stages.items()}
    two_processes(ranks, tmp_path / "store", *both.values())
    for name, stage in stages.items():
        alone = make(tmp_path / f"one-{name}", stage)
        alone.train()
        for figure in ("loss", "margin", "accuracy", "validation_loss", "validation_accuracy"):
            one, two = (
                [row[figure] for row in run.metrics() if row[figure] is not None] for run in (alone, both[name])
            )
            assert two == pytest.approx(one, abs=1e-4), (name, figure)
        shares = [row["communication_share"] for row in both[name].metrics()]
        assert 0 < min(shares) <= max(shares) < 1, shares


def test_pairs_stay_together_and_what_becomes_of_them_is_counted(tmp_path: Path) -> None:
    run = make(tmp_path, PREFER | {"maxLength": 40})
    shards = Shards.open(run.folder().data("train"))
    assert shards.chosen is not None
    assert int(shards.lengths.max()) <= 40
    for number in range(shards.n_documents):
        (chosen, learned), (rejected, also) = shards.texts(number)
        prompt = int(np.flatnonzero(learned)[0])
        assert prompt == int(np.flatnonzero(also)[0])
        assert chosen[:prompt].tolist() == rejected[:prompt].tolist()
        assert learned[prompt:].all()
        assert also[prompt:].all()
        assert chosen.tolist() != rejected.tolist()
