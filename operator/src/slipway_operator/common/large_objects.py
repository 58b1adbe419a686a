"""Passes over large objects are made one at a time: read into models an object takes many times its size, and a tenant
may make as many as there are workers."""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

_LARGE: Final = 1 << 20
"""Bytes in the cache. A run of ten stages has a hundredth of it."""
LATER: Final = timedelta(seconds=2)
"""Until the pass is tried again that has to wait: no worker waits for it."""


@dataclass
class LargeObjects:
    _busy: bool = False

    @contextlib.contextmanager
    def turn(self, weight: int) -> Generator[bool]:
        """Says whether the pass over an object of so many bytes may be made now."""
        if weight <= _LARGE:
            yield True
        elif self._busy:
            yield False
        else:
            self._busy = True
            try:
                yield True
            finally:
                self._busy = False
