"""The lines of a text file, with their ends, which a value in quotes or a paragraph may hold."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from pathlib import Path

from slipway_trainer.data.reading import compression, json_lines
from slipway_trainer.data.reading.block import BLOCK_BYTES, bad
from slipway_trainer.data.reading.block_rows import LONGEST_ROW, not_utf8, too_long


def lines(path: Path, name: str) -> Iterator[str]:
    """Yields each line; a byte order mark before the first one is the file's.

    Raises BadData for a line that is no UTF-8, for one that is longer than a row may be, and when the file cannot be
    unpacked to its end.
    """
    number = 0
    held: list[bytes] = []
    try:
        for chunk in compression.chunks(path, BLOCK_BYTES):
            *ended, rest = chunk.split(b"\n")
            for part in ended:
                number += 1
                yield _decoded(name, number, b"".join([*held, part, b"\n"]))
                held = []
            held.append(rest)
            if sum(map(len, held)) > LONGEST_ROW:
                raise bad(name, number + 1, too_long())
    except compression.Damaged as error:
        raise json_lines.damaged(name, f"line {number}", error) from None
    if last := b"".join(held):
        yield _decoded(name, number + 1, last)


def _decoded(name: str, number: int, raw: bytes) -> str:
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise bad(name, number, not_utf8(raw, error)) from None
    return text.removeprefix(codecs.BOM_UTF8.decode()) if number == 1 else text
