"""Numbers of a device on their way to the host."""

from __future__ import annotations

from typing import Any

import torch


class ReadBack:
    """A few numbers, to be read later.

    To ask a tensor of a GPU for its numbers waits for all that the GPU was given since: the whole next step. Here they
    are copied when they are known, and whoever reads them waits for that copy alone.
    """

    def __init__(self, numbers: torch.Tensor) -> None:
        """
        Args:
            numbers: [n], of any type, perhaps still being computed.
        """
        self._event: Any = None
        self._numbers = numbers.detach()
        if numbers.is_cuda:
            self._numbers = torch.empty(numbers.shape, dtype=numbers.dtype, pin_memory=True)
            self._numbers.copy_(numbers.detach(), non_blocking=True)
            self._event = torch.cuda.Event()
            self._event.record()

    def read(self) -> list[float]:
        """Returns the numbers, as soon as they are known."""
        if self._event is not None:
            self._event.synchronize()
        return self._numbers.tolist()
