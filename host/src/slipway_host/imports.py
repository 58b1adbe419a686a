"""Imports of large libraries without a garbage collector that looks through them again and again."""

from __future__ import annotations

import gc
from collections.abc import Generator
from contextlib import contextmanager

_THRESHOLD = (100_000, 20, 100)
"""New objects until Python looks among the newest, and how often it does before it looks among older ones too. Where it
never looked, the half million became 860,000, and the peak 14 MiB more."""


@contextmanager
def of_libraries() -> Generator[None]:
    """Has Python look for garbage rarely while libraries are imported inside, and as before afterwards.

    torch and transformers leave half a million objects, nearly all for good, and Python looks for cycles among the
    newest after every 700, and among all of them whenever they are a quarter more.
    """
    before = gc.get_threshold()
    gc.set_threshold(*_THRESHOLD)
    try:
        yield
    finally:
        gc.set_threshold(*before)
