"""How far a pass over the rows is, told now and then: a file may take hours."""

from __future__ import annotations

import time

from slipway_trainer.step.progress import Say

SAY_SECONDS = 10.0


class RowProgress:
    def __init__(self, what: str, say: Say) -> None:
        self._what, self._say, self._rows, self._said = what, say, 0, time.monotonic()

    def add(self, rows: int) -> None:
        self._rows += rows
        if time.monotonic() - self._said >= SAY_SECONDS:
            self._said = time.monotonic()
            self._say(f"{self._what} {self._rows:,} rows")
