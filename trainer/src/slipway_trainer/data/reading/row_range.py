"""Some rows of a file: those from one number to another, counted from 0, each with the line that it has in the file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from slipway_trainer.data.reading.block import Block
from slipway_trainer.step.errors import BadData

if TYPE_CHECKING:
    import pyarrow


def cut(blocks: Iterable[Block], start: int, stop: int) -> Iterator[Block]:
    """Yields what of some blocks lies in the rows from start to before stop; nothing is read behind those."""
    done = 0
    for block in blocks:
        if done >= stop:
            return
        rows = count_of(block)
        first, last = max(0, start - done), min(rows, stop - done)
        if first == 0 and last == rows:
            yield block
        elif first < last:
            yield _arrow_part(block, first, last) if block.arrow else _text_part(block, first, last)
        done += rows


def count_of(block: Block) -> int:
    """Returns how many rows a block has."""
    return _table(block).num_rows if block.arrow else len(_row_lines(block))


def count_of_parquet(path: Path, name: str) -> int:
    """Returns how many rows a Parquet file says it has. Raises BadData when it is damaged."""
    import pyarrow as arrow
    from pyarrow import parquet

    try:
        return parquet.read_metadata(path).num_rows
    except arrow.ArrowException as error:
        raise BadData(f"{name}: is no readable Parquet file: {error}") from None


def _row_lines(block: Block) -> list[int]:
    return [number for number, line in enumerate(block.payload.split(b"\n")) if line.strip()]


def _text_part(block: Block, first: int, last: int) -> Block:
    lines, rows = block.payload.split(b"\n"), _row_lines(block)[first:last]
    begin, end = rows[0], rows[-1] + 1
    return replace(
        block,
        payload=b"\n".join(lines[begin:end]) + b"\n",
        first=block.first + begin,
        lines=block.lines[begin:end] if block.lines else (),
    )


def _arrow_part(block: Block, first: int, last: int) -> Block:
    import pyarrow as arrow

    table = _table(block).slice(first, last - first)
    sink = arrow.BufferOutputStream()
    with arrow.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return replace(block, payload=sink.getvalue().to_pybytes(), first=block.first + first)


def _table(block: Block) -> pyarrow.Table:
    import pyarrow as arrow

    with arrow.ipc.open_stream(block.payload) as stream:
        return stream.read_all()
