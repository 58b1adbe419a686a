"""Numbers are read when they are known, and no later: what a device was given since is not waited for."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from slipway_trainer.training.read_back import ReadBack


def test_on_a_cpu_they_are_the_numbers_themselves() -> None:
    assert ReadBack(torch.tensor([1.5, 2.0], dtype=torch.float64)).read() == [1.5, 2.0]
    assert ReadBack(torch.tensor([3.0], requires_grad=True)).read() == [3.0]


def test_of_a_gpu_a_copy_is_begun_at_once_and_that_alone_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Through a stand-in: there is no GPU here."""
    done: list[str] = []

    class Event:
        def record(self) -> None:
            done.append("recorded")

        def synchronize(self) -> None:
            done.append("waited")

    class Host:
        def copy_(self, numbers: Any, *, non_blocking: bool) -> None:
            done.append("copied aside" if non_blocking else "copied")
            self.numbers = numbers

        def tolist(self) -> list[float]:
            done.append("read")
            return [4.0]

    class OfGpu:
        shape, dtype, is_cuda = (1,), torch.float64, True

        def detach(self) -> OfGpu:
            return self

    def empty(shape: tuple[int], *, dtype: torch.dtype, pin_memory: bool) -> Host:
        assert pin_memory, "a copy into other memory is no copy aside"
        return Host()

    monkeypatch.setattr(torch, "empty", empty)
    monkeypatch.setattr(torch.cuda, "Event", Event)
    numbers: Any = OfGpu()
    later = ReadBack(numbers)
    assert done == ["copied aside", "recorded"]
    assert later.read() == [4.0]
    assert done[2:] == ["waited", "read"]
