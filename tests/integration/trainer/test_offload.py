"""Optimizer and weights in the host's memory: the same training as without, killed, and in several processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.integration.trainer.nursery import Nursery
from tests.integration.trainer.test_train_processes import back_to, two_processes
from tests.integration.trainer.training import PRETRAIN, Training, make

from slipway_trainer import export
from slipway_trainer.step.fence import Fence

MICRO = PRETRAIN | {"steps": 5, "batch": {"sequences": 4, "microSequences": 1}}
"""Several micro batches add up in the host's memory."""
EVERY_TWO = {"checkpoints": {"everySteps": 2}}
ALL = {"offload": "All"}


def optimizer(zero: int) -> dict[str, Any]:
    return {"offload": "Optimizer", "zeroStage": zero}


def weights(run: Training) -> dict[str, torch.Tensor]:
    return load_file(run.folder().model / "model.safetensors")


@pytest.mark.parametrize("memory", [optimizer(1), optimizer(2), optimizer(3), ALL], ids=["1", "2", "3", "all"])
def test_D_what_is_offloaded_learns_the_same_and_goes_on_bit_for_bit(tmp_path: Path, memory: dict[str, Any]) -> None:
    plain = make(tmp_path / "plain", MICRO)
    plain.train()
    run = make(tmp_path / "run", MICRO | {"memory": memory}, **EVERY_TWO)
    run.train()
    undisturbed, learned = run.losses(), weights(run)
    assert undisturbed == pytest.approx(plain.losses(), abs=1e-6)
    for name, weight in weights(plain).items():
        torch.testing.assert_close(learned[name], weight, atol=1e-5, rtol=1e-4)
    back_to(run, 2)
    run.train(attempt=2)
    assert run.losses() == undisturbed
    assert all(torch.equal(weights(run)[name], weight) for name, weight in learned.items())
    assert export.run(run.plan, run.workspace, attempt=1).artifact is not None


@pytest.mark.slow
def test_D_two_processes_offload_as_one_does_without(ranks: Nursery, tmp_path: Path) -> None:
    plain = make(tmp_path / "plain", MICRO)
    plain.train()
    runs = [
        make(tmp_path / str(number), MICRO | {"memory": memory, "precision": precision}, **EVERY_TWO)
        for number, (precision, memory) in enumerate(
            [("FP32", optimizer(1)), ("FP32", ALL), ("BF16", optimizer(2)), ("BF16", optimizer(3))]
        )
    ]
    lora = MICRO | {"adapter": {"rank": 4}}
    adapted, plain_lora = make(tmp_path / "lora", lora | {"memory": ALL}), make(tmp_path / "plain-lora", lora)
    plain_lora.train()
    two_processes(ranks, tmp_path / "store", *runs, adapted)
    undisturbed = [run.losses() for run in runs]
    for run, losses in zip(runs, undisturbed, strict=True):
        close = 1e-5 if run.plan.stages[0].precision == "FP32" else 0.02
        assert losses == pytest.approx(plain.losses(), abs=close)
        back_to(run, 2)
        Fence(run.workspace.fence("pretrain"), 2).raise_()
    two_processes(ranks, tmp_path / "store-2", *runs)
    assert [run.losses() for run in runs] == undisturbed
    assert adapted.losses() == pytest.approx(plain_lora.losses(), abs=1e-5)
    assert export.run(adapted.plan, adapted.workspace, attempt=1).artifact is not None
