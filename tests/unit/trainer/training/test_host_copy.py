"""The copy of which a checkpoint is written while the training goes on."""

from typing import Any

import torch

from slipway_trainer.training.checkpoints.checkpoint_files import HostCopy


class Scaler:
    def __init__(self) -> None:
        self.scale = 4.0


def test_what_is_trained_afterwards_changes_nothing_of_a_copy() -> None:
    flat, scaler = torch.arange(6.0), Scaler()
    state: dict[str, Any] = {"w": flat[:2], "groups": [{"lr": 0.1, "betas": (0.9, flat[2:4])}], "scaler": scaler, 7: 3}
    copied = HostCopy().of(state)
    flat.fill_(-1.0)
    state["groups"][0]["lr"] = 0.2
    scaler.scale = 2.0
    assert copied["w"].tolist() == [0.0, 1.0]
    assert copied["groups"][0]["lr"] == 0.1
    assert copied["groups"][0]["betas"][1].tolist() == [2.0, 3.0]
    assert copied["scaler"].scale == 4.0
    assert copied[7] == 3
    assert copied["w"].untyped_storage().nbytes() == 8, "of a view no more is written than it shows"


def test_its_memory_serves_the_next_copy() -> None:
    copies, weight = HostCopy(), torch.zeros(4)
    first = copies.of({"w": weight, "other": torch.zeros(2)})
    weight += 1
    second = copies.of({"w": weight, "other": torch.zeros(3)})
    assert second["w"].data_ptr() == first["w"].data_ptr()
    assert second["w"].tolist() == [1.0] * 4
    assert second["other"].shape == (3,)


def test_a_parameter_is_copied_as_what_it_holds() -> None:
    copied = HostCopy().of({"w": torch.nn.Parameter(torch.ones(2, dtype=torch.bfloat16))})
    assert not copied["w"].requires_grad
    assert copied["w"].dtype == torch.bfloat16
