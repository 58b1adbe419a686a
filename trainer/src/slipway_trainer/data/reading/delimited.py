"""Files of values separated by commas or tabs, whose first line names the columns."""

from __future__ import annotations

import codecs
import csv
import json
from collections.abc import Iterator
from pathlib import Path

from slipway_trainer.data.bad_row import shown
from slipway_trainer.data.reading import compression, json_lines
from slipway_trainer.data.reading.block import BLOCK_BYTES, BLOCK_ROWS, Block, Reading, bad
from slipway_trainer.data.reading.block_rows import not_utf8
from slipway_trainer.step.errors import BadData

_LONGEST = 1 << 30
"""Characters of a value; Python's csv refuses more than 131,072 unless it is told."""


def blocks(path: Path, name: str, reading: Reading) -> Iterator[Block]:
    """Yields the rows of a file, each with the line on which it begins. A value that is empty says nothing.

    Raises BadData for a row that has other columns than the first line names.
    """
    csv.field_size_limit(_LONGEST)
    tabs = ".tsv" in path.name
    source = csv.reader(_lines(path, name), delimiter="\t" if tabs else ",", strict=True)
    rows: list[str] = []
    lines: list[int] = []
    size, begun = 0, 1
    header: list[str] | None = None
    try:
        for values in source:
            line, begun = begun, source.line_num + 1
            if not values:
                continue
            if header is None:
                header = _header(name, values)
                continue
            if len(values) != len(header):
                raise bad(
                    Block(name, line, b""),
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
    except csv.Error as error:
        raise bad(Block(name, begun, b""), begun, f"not a row: {error}") from None
    except compression.Damaged as error:
        raise json_lines.damaged(name, f"line {begun - 1}", error) from None
    if rows:
        yield _block(name, rows, lines)


def _block(name: str, rows: list[str], lines: list[int]) -> Block:
    return Block(name, lines[0], "\n".join(rows).encode("utf-8", "surrogatepass"), lines=tuple(lines))


def _header(name: str, values: list[str]) -> list[str]:
    if twice := next((value for value in values if values.count(value) > 1), None):
        raise BadData(f"{name}: has two columns {twice!r}. Keep one of them")
    return values


def _lines(path: Path, name: str) -> Iterator[str]:
    """Yields lines with their ends: a value in quotes may hold some."""
    number, begun = 0, b""
    for chunk in compression.chunks(path, BLOCK_BYTES):
        parts = (begun + chunk).split(b"\n")
        begun = parts.pop()
        for part in parts:
            number += 1
            yield _decoded(name, number, part + b"\n")
    if begun:
        yield _decoded(name, number + 1, begun)


def _decoded(name: str, number: int, raw: bytes) -> str:
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise bad(Block(name, number, b""), number, not_utf8(raw, error)) from None
    if "\0" in text:
        raise bad(
            Block(name, number, b""), number, "a NUL character. Remove it; a file in UTF-16 has them: save it as UTF-8"
        )
    return text.removeprefix(codecs.BOM_UTF8.decode()) if number == 1 else text
