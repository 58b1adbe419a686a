"""Files with a JSON object a line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from slipway_trainer.data.reading import block_rows, compression
from slipway_trainer.data.reading.block import BLOCK_BYTES, Block, Reading, bad
from slipway_trainer.step.errors import BadData


def blocks(path: Path, name: str, reading: Reading) -> Iterator[Block]:
    """Yields the lines of a file. Raises BadData when it cannot be unpacked to its end, and for a line that is too long
    to be a row: not all of it is read then, since a whole file may be one line."""
    first, ended, begun_bytes = 1, 0, 0
    held: list[bytes] = []
    try:
        for chunk in compression.chunks(path, BLOCK_BYTES):
            ended += chunk.count(b"\n")
            begun_bytes = len(chunk) - chunk.rfind(b"\n") - 1 + (0 if b"\n" in chunk else begun_bytes)
            if begun_bytes > block_rows.LONGEST_ROW:
                raise bad(name, ended + 1, block_rows.too_long())
            held.append(chunk)
            if b"\n" in chunk and sum(map(len, held)) >= BLOCK_BYTES:
                payload, _, begun = b"".join(held).rpartition(b"\n")
                yield Block(name, first, payload)
                first, held = ended + 1, [begun]
    except compression.Damaged as error:
        raise damaged(name, f"line {ended}", error) from None
    yield Block(name, first, b"".join(held))


def damaged(name: str, after: str, error: compression.Damaged) -> BadData:
    """Returns the error of a compressed file that is not whole."""
    return BadData(f"{name}: cannot be unpacked after {after}: {error}. Copy the file again, or make it anew")
