"""Which training documents are set aside for the validation loss: by their content, so equals stay together.

Pairs of answers are set aside by their prompt: what was learned of one pair tells much of another one on the same."""

from __future__ import annotations

import hashlib

import numpy as np

from slipway_trainer.batches.order import mix

_LOWER = (1 << 32) - 1


def key(comparable: str) -> int:
    """Returns the 64-bit key of a document in the form in which equal documents are equal (`text.comparable`)."""
    return int.from_bytes(hashlib.blake2b(comparable.encode(), digest_size=8).digest(), "little")


def pair_key(prompt: str, whole: str) -> int:
    """Returns the key of a pair of answers: its upper half is that of the prompt alone (`prompts`)."""
    return key(prompt) & ~_LOWER | key(whole) & _LOWER


def prompts(keys: np.ndarray) -> np.ndarray:
    """Returns the keys (uint64) by which pairs of answers are set aside: equal for pairs of one prompt."""
    return np.asarray(keys, np.uint64) & np.uint64(~_LOWER & (1 << 64) - 1)


def threshold(keys: np.ndarray, *, fraction: float, seed: int) -> int:
    """Returns the largest seeded key that is set aside, so that this share of the distinct documents is.

    At least one document is set aside and at least one is not. Raises ValueError when there are not two.
    """
    places = np.unique(_seeded(keys, seed))
    if len(places) < 2:
        raise ValueError(
            "a single distinct document (or pairs of a single prompt) cannot be split into training and validation "
            "data. Add documents, or take validation out"
        )
    count = min(max(1, round(fraction * len(places))), len(places) - 1)
    return int(places[count - 1])


def set_aside(keys: np.ndarray, *, threshold: int, seed: int) -> np.ndarray:
    """Returns for each key (uint64) whether its document is validation data."""
    return _seeded(keys, seed) <= np.uint64(threshold)


def _seeded(keys: np.ndarray, seed: int) -> np.ndarray:
    return mix(np.asarray(keys, np.uint64) ^ mix(np.array([seed], np.uint64))[0])
