"""Muon as torch computes it, matrix by matrix."""

from typing import Any

import pytest
import torch
from torch import nn

from slipway_trainer.training.muon import Muon, orthogonal

ADAMW: dict[str, Any] = {"betas": (0.9, 0.95), "eps": 1e-8, "fused": True}
SHAPES = [(8, 5), (4, 12), (6, 6), (7,)]


def weights() -> list[nn.Parameter]:
    torch.manual_seed(0)
    return [nn.Parameter(torch.randn(shape)) for shape in SHAPES]


def muon(found: list[nn.Parameter], computed_in: torch.dtype) -> Muon:
    *matrices, norm = found
    rest = [{"params": [norm], "weight_decay": 0.0}]
    own = {"params": matrices, "weight_decay": 0.1}
    return Muon(own, rest, momentum=0.9, computed_in=computed_in, **ADAMW)


def torchs(found: list[nn.Parameter]) -> list[torch.optim.Optimizer]:
    *matrices, norm = found
    return [
        torch.optim.Muon(matrices, lr=0, weight_decay=0.1, momentum=0.9, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW([norm], lr=0, weight_decay=0.0, **ADAMW),
    ]


def step(optimizers: list[torch.optim.Optimizer], found: list[nn.Parameter], number: int) -> None:
    torch.manual_seed(number)
    for weight in found:
        weight.grad = torch.randn_like(weight)
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = 0.01 * (number + 1)
        optimizer.step()


@pytest.mark.parametrize(("computed_in", "close"), [(torch.bfloat16, 0.0), (torch.float32, 5e-3)])
def test_it_is_torchs_muon_and_adamw_and_goes_on_from_its_state(computed_in: torch.dtype, close: float) -> None:
    ours, theirs = weights(), weights()
    mine, others = muon(ours, computed_in), torchs(theirs)
    for number in range(5):
        step([mine], ours, number)
        step(others, theirs, number)
        again = muon(ours, computed_in)
        again.load_state_dict(mine.state_dict())
        mine = again
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, atol=close, rtol=0)


@pytest.mark.parametrize("shape", SHAPES[:3])
def test_what_is_orthogonal_has_singular_values_of_about_one(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    values = torch.linalg.svdvals(orthogonal(torch.randn(shape) * 1e-3))
    assert values.min() > 0.6
    assert values.max() < 1.3


def test_a_matrix_without_a_gradient_stays() -> None:
    found = weights()
    optimizer = muon(found, torch.float32)
    before = [weight.clone() for weight in found]
    optimizer.param_groups[0]["lr"] = 0.1
    found[0].grad, found[1].grad = torch.zeros_like(found[0]), None
    optimizer.step()
    assert torch.equal(found[1], before[1])
    torch.testing.assert_close(found[0], before[0] * (1 - 0.1 * 0.1))
