"""SIGTERM and SIGINT: what a step does about them."""

from __future__ import annotations

import signal
from dataclasses import dataclass, field
from types import FrameType

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


@dataclass
class StopFlag:
    """Set by SIGTERM or SIGINT and read by a loop that ends at a place of its own choosing."""

    requested: bool = False
    _previous: dict[int, object] = field(default_factory=dict)

    def install(self) -> StopFlag:
        for number in STOP_SIGNALS:
            self._previous[number] = signal.signal(number, self._set)
        return self

    def restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _set(self, _number: int, _frame: FrameType | None) -> None:
        self.requested = True
