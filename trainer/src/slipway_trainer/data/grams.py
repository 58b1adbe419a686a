"""Runs of units, as numbers."""

from __future__ import annotations

import numpy as np

from slipway_trainer.batches.order import mix


def gram_hashes(ids: np.ndarray, size: int) -> np.ndarray:
    """Returns a uint64 hash of every run of `size` ids, [len(ids) - size + 1]."""
    places = max(len(ids) - size + 1, 0)
    found = np.zeros(places, np.uint64)
    with np.errstate(over="ignore"):
        for offset in range(size):
            found = found * np.uint64(0xD1342543DE82EF95) + ids[offset : offset + places]
    return mix(found)
