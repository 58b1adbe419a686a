"""Files with a JSON object a line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from slipway_trainer.data.reading import compression
from slipway_trainer.data.reading.block import BLOCK_BYTES, Block, Reading
from slipway_trainer.step.errors import BadData


def blocks(path: Path, name: str, reading: Reading) -> Iterator[Block]:
    """Yields the lines of a file. Raises BadData when it cannot be unpacked to its end."""
    first, ended = 1, 0
    held: list[bytes] = []
    try:
        for chunk in compression.chunks(path, BLOCK_BYTES):
            ended += chunk.count(b"\n")
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
