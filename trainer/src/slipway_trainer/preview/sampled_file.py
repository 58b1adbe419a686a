"""A data file of which every row is counted and some are looked at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from slipway_trainer.batches.order import mix
from slipway_trainer.data.inputs import InputFile
from slipway_trainer.data.reading.block import Block

SAMPLE_BYTES = 4 << 20
"""Text that is looked at: what takes three seconds on one core."""


@dataclass(frozen=True)
class SampledFile(InputFile):
    """Gives the same blocks each time, from memory: what is kept of it is small.

    A row is taken by its number alone, so the sample is the same each time, spread over the whole file, and of every
    length alike.
    """

    share: float = 1.0
    """Of its rows that are taken."""
    _found: list[_Taken] = field(default_factory=list["_Taken"], compare=False, repr=False)

    def blocks(self) -> Iterator[Block]:
        """Yields the rows that are taken. Raises BadData when the file is unreadable, each time."""
        if not self._found:
            # At once, so that a file which ends in an error has nothing to give.
            self._found.extend(list(self._taken()))
        yield from (one.block for one in self._found if one.block is not None)

    def _taken(self) -> Iterator[_Taken]:
        rows = 0
        for block in super().blocks():
            number = len(places := _rows(block))
            chosen = _chosen(rows, number, self.share)
            taken = block if self.share >= 1 else keep(block, [places[n] for n in chosen])
            yield _Taken(taken if len(chosen) else None, number, len(chosen))
            rows += number

    @property
    def rows(self) -> int:
        """Of the whole file, once its blocks were asked for."""
        return sum(one.rows for one in self._found)

    @property
    def looked_at(self) -> int:
        return sum(one.kept for one in self._found)


@dataclass(frozen=True)
class _Taken:
    block: Block | None
    rows: int
    kept: int


def sampled(files: Sequence[InputFile], budget: int | None = None) -> dict[Any, SampledFile]:
    """Returns each file by its key, with the share of it that is looked at.

    The budget is bytes of text, SAMPLE_BYTES when left out. Small files are looked at whole, and large ones have even
    parts of what is left.
    """
    shares: dict[Any, float] = {}
    left, waiting = float(SAMPLE_BYTES if budget is None else budget), sorted(files, key=lambda file: file.text_bytes)
    while waiting:
        part = left / len(waiting)
        file = waiting.pop(0)
        shares[file.key] = min(1.0, part / max(1, file.text_bytes))
        left -= min(part, file.text_bytes)
    return {
        file.key: SampledFile(file.source, file.size, file.sha256, file.stamp, file.reading, share=shares[file.key])
        for file in files
    }


def keep(block: Block, places: Sequence[int]) -> Block:
    """Returns a block with some of its rows, by their place in the payload, each with its line."""
    if block.arrow:
        import pyarrow as arrow

        with arrow.ipc.open_stream(block.payload) as stream:
            table = stream.read_all().take(list(places))
        sink = arrow.BufferOutputStream()
        with arrow.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        payload = sink.getvalue().to_pybytes()
    else:
        raw = block.payload.split(b"\n")
        payload = b"\n".join(raw[place] for place in places)
    lines = tuple(block.lines[place] if block.lines else block.first + place for place in places)
    return replace(block, payload=payload, lines=lines)


def each_row(block: Block) -> Iterator[Block]:
    """Yields each row of a block as a block of its own."""
    for place in _rows(block):
        yield keep(block, [place])


def _rows(block: Block) -> Sequence[int]:
    """Returns where in the payload its rows are."""
    if block.arrow:
        import pyarrow as arrow

        with arrow.ipc.open_stream(block.payload) as stream:
            return range(sum(batch.num_rows for batch in stream))
    return [place for place, raw in enumerate(block.payload.split(b"\n")) if raw.strip()]


def _chosen(first: int, count: int, share: float) -> np.ndarray:
    """Returns which of `count` rows are taken, of which the first has this number in its file."""
    if share >= 1:
        return np.arange(count)
    keys = mix(np.arange(first, first + count, dtype=np.uint64))
    return np.flatnonzero(keys < np.uint64(int(share * 2**64)))
