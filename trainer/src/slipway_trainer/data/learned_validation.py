"""Validation data of one's own that is learned too: its loss falls as it is learned by heart, and tells nothing."""

from __future__ import annotations

import numpy as np

_AT_A_TIME = 1 << 20
"""Keys of training documents that are sorted together, so that no second copy of all is held."""


def count(validation: np.ndarray, training: np.ndarray) -> int:
    """Returns how many of the validation documents stand in the training data word for word.

    Args:
        validation, training: uint64, keys by which equal documents are equal (`validation_split.key`).
    """
    distinct, times = np.unique(validation, return_counts=True)
    learned = np.zeros(len(distinct), bool)
    for start in range(0, len(training), _AT_A_TIME):
        learned |= np.isin(distinct, training[start : start + _AT_A_TIME])
    return int(times[learned].sum())


def line(stage: str, learned: int, documents: int) -> str:
    """Returns what is said of it where some are."""
    return (
        f"stage {stage}: {learned:,} of {documents:,} documents of data.validation.data stand in its training data "
        "word for word, so their loss falls as they are learned by heart. Take them out of one of the two, or have a "
        "part of the training data set aside (data.validation.fraction)"
    )
