"""From a data file of any kind to blocks of whole rows, each with what the first row of the file says of all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path

from slipway_trainer.data.bad_row import BadRow
from slipway_trainer.data.formats import columns, row_format
from slipway_trainer.data.formats.row_format import Format
from slipway_trainer.data.reading import columnar, delimited, json_array, json_lines, plain_text, row_range
from slipway_trainer.data.reading.block import Block, Head, Reading, bad
from slipway_trainer.data.reading.block_rows import rows_of
from slipway_trainer.step.errors import BadData

_KINDS: dict[str, Callable[[Path, str, Reading], Iterator[Block]]] = {
    ".jsonl": json_lines.blocks,
    ".json": json_array.blocks,
    ".csv": delimited.blocks,
    ".tsv": delimited.blocks,
    ".txt": plain_text.blocks,
    ".parquet": columnar.parquet_blocks,
    ".arrow": columnar.arrow_blocks,
}
PACKED = ("", ".gz", ".zst")
SUFFIXES = tuple(kind + packed for kind in _KINDS for packed in PACKED)
READ = f"{', '.join(_KINDS)}, each also with .gz or .zst"
"""For errors."""


def kind_of(name: str) -> str | None:
    """Returns what kind of data file a name says, such as .jsonl for data.jsonl.gz; None for none."""
    return next((kind for kind in _KINDS for packed in PACKED if name.endswith(kind + packed)), None)


def blocks(path: Path, name: str, reading: Reading | None = None) -> Iterator[Block]:
    """Yields the rows of a file. Raises BadData when it is missing, empty, unreadable or of another kind.

    Args:
        path: of the file.
        name: as a user knows it.
        reading: what its source says of it.
    """
    reading = reading or Reading()
    kind = kind_of(path.name) or kind_of(name)
    if kind is None:
        raise BadData(f"{name}: not a data file; these are read: {READ}")
    try:
        found = (block for block in _KINDS[kind](path, name, reading) if block.payload.strip())
        first = next(found, None)
        if first is not None:
            head = _head(replace(first, reading=reading))
            every = chain([first], found)
            for block in row_range.cut(every, *reading.rows) if reading.rows is not None else every:
                yield replace(block, reading=reading, head=head)
    except FileNotFoundError:
        raise BadData(f"{name}: there is no such file") from None
    except IsADirectoryError:
        raise BadData(f"{name}: is a folder, not a file") from None
    except PermissionError:
        raise BadData(f"{name}: may not be read; give this user the right to (chmod +r)") from None
    except OSError as error:
        raise BadData(f"{name}: cannot be read: {error.strerror or error}") from None
    if first is None:
        raise BadData(f"{name}: is empty. Give it rows, or take it out of the data")


def _head(block: Block) -> Head:
    asked = dict(block.reading.columns)
    line, row = next(rows_of(block))
    try:
        found: tuple[Format, ...] = row_format.of_row(columns.renamed(row, asked) if asked else row)
    except BadRow as error:
        raise bad(block.name, line, error) from None
    if asked:
        named = row_format.named_by(asked)
        found = tuple[Format, ...](form for form in found if form in named)
    return Head(line, found)
