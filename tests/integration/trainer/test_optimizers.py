"""Optimizers beside AdamW under every ZeRO stage that takes them: a plain loop's results, and the same after a kill."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.integration.trainer import muon_ranks, plain_torch
from tests.integration.trainer.nursery import Nursery
from tests.integration.trainer.test_train import crash
from tests.integration.trainer.test_train_processes import back_to, two_processes
from tests.integration.trainer.training import PRETRAIN, Training, make

from slipway_core.resources.stage import Stage
from slipway_trainer.step.errors import BadCheckpoint
from slipway_trainer.step.fence import Fence
from slipway_trainer.training import optimizer

SCRATCH: dict[str, Any] = {
    "scratch": {"layers": 1, "hiddenSize": 64, "heads": 2, "maxLength": 64, "tokenizer": {"train": {"vocabSize": 320}}}
}
"""Its matrices have 4,096 weights and more: AdamW8bit has them in 8 bits. Half of them ends within one."""
STAGES = {"AdamW8bit": (0, 1, 2, 3), "Muon": (0, 1, 2)}
EVERY = [(name, zero) for name, stages in STAGES.items() for zero in stages]


def learning(name: str, zero: Any, *, steps: int = 5, precision: str = "FP32") -> dict[str, Any]:
    return PRETRAIN | {
        "steps": steps,
        "precision": precision,
        "optimizer": {"name": name, "learningRate": 3e-3, "schedule": "WSD", "decayRatio": 0.4},
        "memory": {"zeroStage": zero},
    }


def a_run(folder: Path, stage: dict[str, Any], **spec: Any) -> Training:
    return make(folder, stage, model=SCRATCH, **spec)


def weights(run: Training) -> dict[str, torch.Tensor]:
    return load_file(run.folder().model / "model.safetensors")


def furthest(run: Training, expected: dict[str, torch.Tensor]) -> float:
    return max(float((weight.float() - expected[name]).abs().max()) for name, weight in weights(run).items())


def own(stage: Stage) -> plain_torch.Optimizers:
    return lambda model: [optimizer.make(model, stage, torch.device("cpu"))]


def torchs_muon(model: Any) -> list[torch.optim.Optimizer]:
    """As its authors say: matrices of the blocks by Muon, and the rest by AdamW."""
    matrices = [weight for name, weight in model.named_parameters() if "layers" in name and weight.ndim == 2]
    taken = {id(weight) for weight in matrices}
    rest = [weight for weight in model.parameters() if id(weight) not in taken]
    return [
        torch.optim.Muon(matrices, lr=0, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(rest, lr=0, betas=(0.9, 0.95), weight_decay=0.0),
    ]


@pytest.mark.parametrize("name", ["AdamW8bit", "Muon"])
def test_one_process_computes_what_a_plain_torch_loop_computes(tmp_path: Path, name: str) -> None:
    runs = {zero: a_run(tmp_path / str(zero), learning(name, zero)) for zero in STAGES[name]}
    losses, expected = plain_torch.train(runs[0], own(runs[0].plan.stages[0]))
    for zero, run in runs.items():
        run.train()
        # Blocks of 256 weights that share a scale begin elsewhere where ZeRO lays the matrices end to end.
        close = 1e-5 if name == "Muon" or zero == 0 else 2e-3
        assert run.losses() == pytest.approx(losses, abs=close), zero
        assert furthest(run, expected) < 100 * close, zero
    if name == "Muon":
        theirs, weights_of_theirs = plain_torch.train(runs[0], torchs_muon)
        # Torch makes matrices orthogonal in bfloat16, on a CPU too.
        assert losses == pytest.approx(theirs, abs=1e-3)
        assert furthest(runs[0], weights_of_theirs) < 5e-3


@pytest.mark.parametrize("zero", ["Auto", 0, 2])
def test_muon_learns_in_bf16_what_it_learns_in_fp32(tmp_path: Path, zero: Any) -> None:
    run = a_run(tmp_path, learning("Muon", zero, precision="BF16"))
    losses, _ = plain_torch.train(run, own(run.plan.stages[0]))
    run.train()
    assert run.losses() == pytest.approx(losses, abs=5e-3)


@pytest.mark.parametrize(("name", "zero"), EVERY)
def test_D_a_killed_training_goes_on_bit_for_bit(tmp_path: Path, name: str, zero: int) -> None:
    checkpoints = {"checkpoints": {"everySteps": 2}}
    undisturbed = a_run(tmp_path / "undisturbed", learning(name, zero), **checkpoints)
    undisturbed.train()
    run = a_run(tmp_path / "killed", learning(name, zero), **checkpoints)
    crash(run, at=4)
    run.train(attempt=2)
    assert run.losses() == undisturbed.losses()
    expected = weights(undisturbed)
    assert all(torch.equal(weight, expected[name]) for name, weight in weights(run).items())


def test_muon_on_pieces_is_muon_on_matrices(ranks: Nursery, tmp_path: Path) -> None:
    """Among three ranks, of which all have a part of one matrix; the last piece is padded."""
    world = 3
    ranks.run(
        muon_ranks.__file__,
        lambda rank: [str(rank), str(world), str(tmp_path / "store"), str(tmp_path)],
        tmp_path / "logs",
        world=world,
    )
    matrices = [torch.nn.Parameter(weight) for weight in muon_ranks.numbers(0)]
    whole = muon_ranks.muon(matrices)
    for step in range(1, muon_ranks.STEPS + 1):
        for matrix, gradient in zip(matrices, muon_ranks.numbers(step), strict=True):
            matrix.grad = gradient
        whole.param_groups[0]["lr"] = 0.01 * step
        whole.step()
    expected = torch.cat([matrix.detach().flatten() for matrix in matrices])
    found = torch.cat([torch.load(tmp_path / f"{rank}.pt") for rank in range(world)])
    torch.testing.assert_close(found[: len(expected)], expected, atol=1e-6, rtol=0)


@pytest.mark.slow
def test_two_processes_compute_what_a_plain_torch_loop_computes(ranks: Nursery, tmp_path: Path) -> None:
    runs = {
        (name, zero, precision): a_run(
            tmp_path / f"{name}-{zero}-{precision}", learning(name, zero, precision=precision)
        )
        for name, zero in EVERY
        for precision in ("FP32", "BF16")
        if precision == "FP32" or name == "Muon" or zero == 1
    }
    two_processes(ranks, tmp_path / "store", *runs.values())
    for name in ("AdamW8bit", "Muon"):
        plain = runs[name, 0, "FP32"]
        losses, expected = plain_torch.train(plain, own(plain.plan.stages[0]))
        for zero in STAGES[name]:
            close = 1e-5 if name == "Muon" or zero == 0 else 2e-3
            assert runs[name, zero, "FP32"].losses() == pytest.approx(losses, abs=close), (name, zero)
            assert furthest(runs[name, zero, "FP32"], expected) < 100 * close, (name, zero)
            if half := runs.get((name, zero, "BF16")):
                assert half.losses() == pytest.approx(losses, abs=0.02), (name, zero)


@pytest.mark.slow
def test_D_another_number_of_processes_goes_on_or_is_refused_by_name(ranks: Nursery, tmp_path: Path) -> None:
    checkpoints = {"checkpoints": {"everySteps": 2}}
    cases = [
        ("Muon", 0, "FP32"),
        ("Muon", 1, "FP32"),
        ("Muon", 2, "FP32"),
        ("Muon", 1, "BF16"),
        ("AdamW8bit", 0, "FP32"),
    ]
    divided = [
        a_run(tmp_path / f"{name}-{zero}-{precision}", learning(name, zero, precision=precision), **checkpoints)
        for name, zero, precision in cases
    ]
    whole = a_run(tmp_path / "8bit", learning("AdamW8bit", 2), **checkpoints)
    two_processes(ranks, tmp_path / "store", *divided, whole)
    for run in divided:
        before = run.losses()
        back_to(run, 2)
        run.train(attempt=2)
        close = 1e-5 if run.plan.stages[0].precision == "FP32" else 5e-3
        assert run.losses() == pytest.approx(before, abs=close)
    back_to(whole, 2)
    refused = "under ZeRO 2, and the 8-bit moments of AdamW8bit cannot be divided anew"
    with pytest.raises(BadCheckpoint, match=refused):
        whole.train(attempt=2)
    # Written by one process at step 4 and gone on with by two.
    before = [run.losses() for run in divided]
    for run in divided:
        back_to(run, 4)
        Fence(run.workspace.fence("pretrain"), 3).raise_()
    two_processes(ranks, tmp_path / "store-2", *divided)
    for run, losses in zip(divided, before, strict=True):
        assert run.losses() == pytest.approx(losses, abs=1e-5 if run.plan.stages[0].precision == "FP32" else 5e-3)
