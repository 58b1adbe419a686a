"""From packed rows to what the model is given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from slipway_trainer.batches.packing import Bins
from slipway_trainer.batches.shards import Shards, Text

WIDTH_STEP = 8


@dataclass(frozen=True)
class Pairs:
    """The pairs of answers in a batch: both answers of a pair are documents of it, the chosen one first."""

    count: int
    answers: torch.Tensor
    """int64 [targets]: the answer that each target is of, twice the number of its pair, and one more of a rejected
    one."""
    reference: torch.Tensor | None = None
    """float32 [2 · pairs]: log-probability of each answer by the model that the stage began with, in nats. None where
    it is not known, or not asked for."""

    def to(self, move: Callable[[torch.Tensor], torch.Tensor]) -> Pairs:
        reference = None if self.reference is None else move(self.reference)
        return replace(self, answers=move(self.answers), reference=reference)


@dataclass(frozen=True)
class Batch:
    """Rows of documents, and all that a device would otherwise have to be asked: to ask it, a step would wait for it.

    Positions restart with every document and there is no attention mask: that is how transformers tells documents of
    a row apart, while a mask of ones lets them see each other. The padding at the right of a row is a document of its
    own.
    """

    input_ids: torch.Tensor
    """int64 [rows, width]."""
    position_ids: torch.Tensor
    """int64 [rows, width]."""
    predicting: torch.Tensor
    """int64 [targets]: the places, in all rows end to end, whose next token is learned."""
    targets: torch.Tensor
    """int64 [targets]: that token."""
    lengths: tuple[int, ...]
    """Of each document in all rows end to end, padding among them: rows × width tokens together."""
    pairs: Pairs | None = None
    """Of documents that are pairs of answers."""
    squares: int = 0
    """Sum of the squares of the documents' tokens, without padding: what attention's work grows with."""

    @property
    def counted(self) -> int:
        """What a loss is the mean of: pairs where there are some, else targets."""
        return len(self.targets) if self.pairs is None else self.pairs.count

    @classmethod
    def of_documents(cls, documents: Sequence[torch.Tensor]) -> Batch:
        """Returns one row of documents int64 [tokens] of which nothing is learned, on their device."""
        positions = [torch.arange(len(document), device=document.device) for document in documents]
        nothing = torch.empty(0, dtype=torch.int64)
        row, places = torch.cat(list(documents))[None], torch.cat(positions)[None]
        return cls(row, places, nothing, nothing, tuple(len(document) for document in documents))

    def to(self, device: torch.device) -> Batch:
        """Returns the same on a device; on the way to a GPU nothing waits, where the memory is pinned."""
        return self._moved(lambda tensor: tensor.to(device, non_blocking=True))

    def pinned(self) -> Batch:
        """Returns the same in memory that a GPU reads by itself."""
        return self._moved(lambda tensor: tensor.pin_memory())

    def _moved(self, move: Callable[[torch.Tensor], torch.Tensor]) -> Batch:
        pairs = None if self.pairs is None else self.pairs.to(move)
        return replace(self, pairs=pairs, **{name: move(getattr(self, name)) for name in _TENSORS})


_TENSORS = ("input_ids", "position_ids", "predicting", "targets")


def columns(longest: int, max_length: int) -> int:
    """Returns the width of a batch whose longest row has so many tokens."""
    return min(-(-longest // WIDTH_STEP) * WIDTH_STEP, max_length)


def batch(
    shards: Shards,
    bins: Bins,
    rows: Sequence[int],
    *,
    max_length: int,
    pad_id: int,
    width: int | None = None,
    packed: bool = True,
    reference: np.ndarray | None = None,
) -> Batch:
    """Returns rows of documents.

    Learned is what the documents say is, but the first token of each, which nothing in it predicts. Without rows it is
    a row that teaches nothing: a rank that has none left goes through the model with the others.

    Args:
        width: of the rows; the longest one rounded up to 8 when left out.
        packed: whether the two answers of a pair share a row, as documents do; else each has one of its own.
        reference: float32 [pairs, 2] of all pairs of the shards.

    Raises ValueError when a row is longer.
    """
    chosen = [bins.row(row) for row in rows]
    texts = [[text for document in row for text in shards.texts(int(document))] for row in chosen]
    if not packed:
        texts = [[text] for row in texts for text in row]
    if not texts:
        return _empty(width or WIDTH_STEP, pad_id, paired=shards.chosen is not None)
    found = _laid_out(texts, max_length=max_length, pad_id=pad_id, width=width)
    if shards.chosen is None:
        return found
    pairs = np.concatenate(chosen)
    learned = [int(learn[1:].sum()) for row in texts for _, learn in row]
    answers = torch.from_numpy(np.repeat(np.arange(len(learned)), learned))
    known = None if reference is None else torch.from_numpy(reference[pairs].reshape(-1))
    return replace(found, pairs=Pairs(len(pairs), answers, known))


def _laid_out(texts: list[list[Text]], *, max_length: int, pad_id: int, width: int | None) -> Batch:
    """Returns the rows of a batch, each with its texts one after the other."""
    longest = max((sum(len(tokens) for tokens, _ in row) for row in texts), default=0)
    width = width or columns(longest, max_length)
    if longest > width:
        raise ValueError(f"a row of {longest} tokens does not fit into {width}")
    inputs = np.full((len(texts), width), pad_id, np.int64)
    positions = np.zeros((len(texts), width), np.int64)
    predicting = np.zeros((len(texts), width), bool)
    lengths: list[int] = []
    count = np.arange(width)
    for row, row_texts in enumerate(texts):
        end = 0
        for tokens, learn in row_texts:
            start, end = end, end + len(tokens)
            inputs[row, start:end] = tokens
            positions[row, start:end] = count[: len(tokens)]
            predicting[row, start : end - 1] = learn[1:]
            lengths.append(len(tokens))
        if end < width:
            positions[row, end:] = count[: width - end]
            lengths.append(width - end)
    places = np.flatnonzero(predicting)
    return Batch(
        input_ids=torch.from_numpy(inputs),
        position_ids=torch.from_numpy(positions),
        predicting=torch.from_numpy(places),
        targets=torch.from_numpy(inputs.reshape(-1)[places + 1]),
        lengths=tuple(lengths),
        squares=sum(len(tokens) ** 2 for row in texts for tokens, _ in row),
    )


def _empty(width: int, pad_id: int, *, paired: bool) -> Batch:
    empty = Batch.of_documents([torch.full((width,), pad_id)])
    if not paired:
        return empty
    return replace(empty, pairs=Pairs(0, torch.zeros(0, dtype=torch.int64), torch.zeros(0)))
