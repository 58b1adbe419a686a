"""Files of values separated by commas or tabs, whose first line names the columns."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path

from slipway_trainer.data.bad_row import shown
from slipway_trainer.data.reading import tab_values, text_lines
from slipway_trainer.data.reading.block import BLOCK_BYTES, BLOCK_ROWS, Block, Reading, bad
from slipway_trainer.step.errors import BadData

_LONGEST = 1 << 30
"""Characters of a value; Python's csv refuses more than 131,072 unless it is told."""


def blocks(path: Path, name: str, reading: Reading) -> Iterator[Block]:
    """Yields the rows of a file, each with the line on which it begins. A value that is empty says nothing. Whether a
    .tsv quotes its values is told by all of it (`tab_values`).

    Raises BadData for a row that has other columns than the first line names.
    """
    csv.field_size_limit(_LONGEST)
    rows: list[str] = []
    lines: list[int] = []
    size = 0
    header: list[str] | None = None
    for line, values in _values(path, name):
        if not values:
            continue
        if header is None:
            header = _header(name, values)
            continue
        if len(values) != len(header):
            raise bad(
                name,
                line,
                f"the row has {len(values)} values and the first line names {len(header)} columns. It begins with "
                f'{shown(values[0])}; put values that hold the separator or a line end into "quotes"',
            )
        row = {column: value if value != "" else None for column, value in zip(header, values, strict=True)}
        rows.append(json.dumps(row, ensure_ascii=False))
        lines.append(line)
        size += len(rows[-1])
        if size >= BLOCK_BYTES or len(rows) >= BLOCK_ROWS:
            yield _block(name, rows, lines)
            rows, lines, size = [], [], 0
    if rows:
        yield _block(name, rows, lines)


def _values(path: Path, name: str) -> Iterator[tuple[int, list[str]]]:
    """Yields the values of each row, behind the line on which it begins. Raises BadData for quotes that do not fit."""
    tabs = ".tsv" in path.name
    if tabs and tab_values.quotes_nothing(name, lambda: _lines(path, name)):
        yield from ((number, tab_values.values(line)) for number, line in enumerate(_lines(path, name), 1))
        return
    source = csv.reader(_lines(path, name), delimiter=tab_values.TAB if tabs else ",", strict=True)
    begun = 1
    try:
        for values in source:
            yield begun, values
            begun = source.line_num + 1
    except csv.Error as error:
        raise bad(name, begun, f"not a row: {error}. {_fix(str(error))}") from None


def _fix(problem: str) -> str:
    if tab_values.RETURNS_ALONE in problem:
        return "Lines end with a line feed, and it has carriage returns alone: save the file with line feeds"
    return (
        "A value that begins with a quote ends with one, right before the separator or the end of the line, and has "
        "each quote in it twice: check the quotes from there on"
    )


def _block(name: str, rows: list[str], lines: list[int]) -> Block:
    return Block(name, lines[0], "\n".join(rows).encode("utf-8", "surrogatepass"), lines=tuple(lines))


def _header(name: str, values: list[str]) -> list[str]:
    if twice := next((value for value in values if values.count(value) > 1), None):
        raise BadData(f"{name}: has two columns {twice!r}. Keep one of them")
    if len(values) == 1 and (other := next((sign for sign in ";\t|," if sign in values[0]), None)):
        raise BadData(
            f"{name}: its first line is one column, {shown(values[0])}, which holds {shown(other)}. Columns are parted "
            "by commas, and by tabs in a .tsv: save the file so"
        )
    return values


def _lines(path: Path, name: str) -> Iterator[str]:
    for number, line in enumerate(text_lines.lines(path, name), 1):
        if "\0" in line:
            raise bad(name, number, "a NUL character. Remove it; a file in UTF-16 has them: save it as UTF-8")
        yield line
