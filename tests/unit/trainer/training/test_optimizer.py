"""Which weights decay, and how the learning rate moves."""

import pytest
import torch
from torch import nn

from slipway_core.resources.stage import Optimizer
from slipway_trainer.model.token_rows import TokenRows
from slipway_trainer.training.optimizer import adamw, learning_rate, parameter_groups


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(4, 2)
        self.norm = nn.LayerNorm(2)
        self.linear = nn.Linear(2, 2)
        self.output = nn.Linear(2, 4, bias=False)
        self.output.weight = self.embedding.weight


def rates(total: int, **settings: object) -> list[float]:
    optimizer = Optimizer(learning_rate=1.0, **settings)  # type: ignore[arg-type]
    return [learning_rate(step, total, optimizer) for step in range(total)]


def test_only_matrices_decay() -> None:
    model = Tied()
    decayed, kept = parameter_groups(model, Optimizer(weight_decay=0.3))
    assert [id(p) for p in decayed["params"]] == [id(model.linear.weight)]
    assert decayed["weight_decay"] == 0.3
    assert kept["weight_decay"] == 0
    assert id(model.output.weight) in {id(p) for p in kept["params"]}
    assert len(kept["params"]) == 4


def test_rows_that_are_trained_beside_an_adapter_do_not_decay() -> None:
    model = Tied().requires_grad_(False)
    model.rows = TokenRows([1, 3], model.embedding.weight, tied=False)
    (group,) = parameter_groups(model, Optimizer(weight_decay=0.3))
    assert (len(group["params"]), group["weight_decay"]) == (2, 0)


def test_frozen_weights_are_in_no_group() -> None:
    model = Tied().requires_grad_(False)
    model.linear.weight.requires_grad = True
    (group,) = parameter_groups(model, Optimizer())
    assert len(group["params"]) == 1


def test_the_fused_form_takes_a_step_on_a_cpu() -> None:
    model = Tied()
    optimizer = adamw(model, Optimizer(), torch.device("cpu"))
    model.linear(torch.ones(1, 2)).sum().backward()
    before = model.linear.weight.clone()
    optimizer.step()
    assert torch.equal(model.linear.weight, before), "the rate is 0 until the loop sets it"


@pytest.mark.parametrize("schedule", ["Cosine", "Linear", "Constant"])
def test_warm_up_rises_to_the_peak_and_no_step_learns_nothing(schedule: str) -> None:
    found = rates(20, schedule=schedule, warmup_ratio=0.25)
    assert found[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert all(rate > 0 for rate in found)
    assert found[5:] == sorted(found[5:], reverse=True)


def test_linear_falls_by_the_same_amount_and_cosine_is_half_way_in_the_middle() -> None:
    linear = rates(9, schedule="Linear", warmup_ratio=0.0)
    assert linear == pytest.approx([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1])
    assert rates(9, schedule="Cosine", warmup_ratio=0.0)[4] == pytest.approx(0.5)


def test_constant_stays_and_a_floor_holds() -> None:
    assert set(rates(9, schedule="Constant", warmup_ratio=0.0)) == {1.0}
    assert min(rates(50, schedule="Cosine", warmup_ratio=0.0, min_learning_rate_ratio=0.4)) >= 0.4


def test_one_step_is_a_whole_stage() -> None:
    assert rates(1, warmup_ratio=0.03) == [1.0]
    assert rates(3, warmup_ratio=1.0) == pytest.approx([1 / 3, 2 / 3, 1.0])
