"""BLEU and chrF of a corpus, by sacrebleu: the counts of each answer, and the figure that sums of them make.

The figure of all answers is sacrebleu's own to the digit (a test); it is written here for many sums at once, and with
its slopes, for the bounds. Both go from 0 to 100.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from slipway_trainer.bounds.intervals import Array

ORDERS = 4
CHARACTER_ORDERS = 6
_BETA_SQUARED = 4.0


def bleu_parts(answers: Sequence[str], references: Sequence[Sequence[str]]) -> Array:
    """Returns float64 [answers, 2 + 2 ORDERS]: lengths of answer and reference, n-grams found, and all n-grams.

    Tokens are those of sacrebleu's `zh` where a reference has a Chinese character, else of its `13a`.
    """
    from sacrebleu.metrics.bleu import BLEU

    by_words = {name: BLEU(tokenize=name, force=True) for name in ("13a", "zh")}
    rows = [
        _counts(by_words["zh" if _has_chinese(own) else "13a"], answer, own)
        for answer, own in zip(answers, references, strict=True)
    ]
    return np.array(rows, np.float64).reshape(len(rows), 2 + 2 * ORDERS)


def chrf_parts(answers: Sequence[str], references: Sequence[Sequence[str]]) -> Array:
    """Returns float64 [answers, 3 CHARACTER_ORDERS]: of each order the n-grams of the answer, of the reference, and
    those that both have."""
    from sacrebleu.metrics.chrf import CHRF

    metric = CHRF()
    rows = [_counts(metric, answer, own) for answer, own in zip(answers, references, strict=True)]
    return np.array(rows, np.float64).reshape(len(rows), 3 * CHARACTER_ORDERS)


def _counts(metric: Any, answer: str, references: Sequence[str]) -> list[int]:
    return metric._extract_corpus_statistics([answer], [[one] for one in references])[0]


def _has_chinese(texts: Sequence[str]) -> bool:
    return any("\u4e00" <= character <= "\u9fff" for text in texts for character in text)


class Bleu:
    """BLEU, of the sums of `bleu_parts`."""

    def __call__(self, sums: Array) -> tuple[Array, Array]:
        """Returns BLEU of sums [..., 2 + 2 ORDERS], and its slopes of the same shape (Papineni et al. 2002, with the
        exponential smoothing of Chen and Cherry 2014 that sacrebleu has by default)."""
        length, wanted = sums[..., 0], sums[..., 1]
        found, every = sums[..., 2 : 2 + ORDERS], sums[..., 2 + ORDERS :]
        some = (found.sum(-1) > 0) & (every > 0).all(-1)
        none = found == 0
        halvings = np.cumsum(none, -1)
        safe = np.maximum(every, 1.0)
        precisions = np.where(none, 0.5**halvings, np.maximum(found, 1.0)) / safe
        short = (length < wanted) & (length > 0)
        brevity = np.where(short, 1 - wanted / np.maximum(length, 1.0), 0.0)
        value = np.where(some, 100 * np.exp(brevity + np.log(precisions).mean(-1)), 0.0)
        slopes = np.zeros_like(sums)
        slopes[..., 0] = np.where(short, wanted / np.maximum(length, 1.0) ** 2, 0.0)
        slopes[..., 1] = np.where(short, -1 / np.maximum(length, 1.0), 0.0)
        slopes[..., 2 : 2 + ORDERS] = np.where(none, 0.0, 1 / np.maximum(found, 1.0)) / ORDERS
        slopes[..., 2 + ORDERS :] = -1 / safe / ORDERS
        return value, slopes * value[..., None]

    def ends(self, sums: Array) -> Array:
        """Returns the sums of as much text that is all right, and of as much of which nothing is."""
        right = sums.copy()
        right[0] = right[1]
        every = np.maximum(right[1] - np.arange(ORDERS), 0.0)
        right[2 : 2 + ORDERS] = right[2 + ORDERS :] = every
        wrong = right.copy()
        wrong[2 : 2 + ORDERS] = 0
        return np.stack([right, wrong])


class Chrf:
    """chrF2, of the sums of `chrf_parts`."""

    def __call__(self, sums: Array) -> tuple[Array, Array]:
        """Returns chrF2 of sums [..., 3 CHARACTER_ORDERS], and its slopes of the same shape (Popović 2015)."""
        said, wanted, both = sums[..., 0::3], sums[..., 1::3], sums[..., 2::3]
        counts = (said > 0) & (wanted > 0)
        orders = np.maximum(counts.sum(-1), 1)[..., None]
        said_, wanted_ = np.maximum(said, 1.0), np.maximum(wanted, 1.0)
        precision = (np.where(counts, both / said_, 0.0) / orders).sum(-1)
        recall = (np.where(counts, both / wanted_, 0.0) / orders).sum(-1)
        under = np.maximum(_BETA_SQUARED * precision + recall, 1e-300)
        value = 100 * (1 + _BETA_SQUARED) * precision * recall / under
        of_precision = (100 * (1 + _BETA_SQUARED) * (recall / under) ** 2)[..., None]
        of_recall = (100 * (1 + _BETA_SQUARED) * _BETA_SQUARED * (precision / under) ** 2)[..., None]
        slopes = np.zeros_like(sums)
        share = np.where(counts, 1.0, 0.0) / orders
        slopes[..., 0::3] = -of_precision * share * both / said_**2
        slopes[..., 1::3] = -of_recall * share * both / wanted_**2
        slopes[..., 2::3] = share * (of_precision / said_ + of_recall / wanted_)
        return value, slopes

    def ends(self, sums: Array) -> Array:
        """Returns the sums of as much text that is all right, and of as much of which nothing is."""
        right = np.repeat(sums[1::3], 3)
        wrong = right.copy()
        wrong[2::3] = 0
        return np.stack([right, wrong])


bleu, chrf = Bleu(), Chrf()
