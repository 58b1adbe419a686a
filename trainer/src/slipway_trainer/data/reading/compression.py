"""Compressed files unpacked as they are read; one whose end is missing is never taken for a whole one."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

PACKED_BYTES = 1 << 14
"""Of a zstd file at a time: a frame gives out all that these hold, which for a run of equal bytes is very much."""


class Damaged(ValueError):
    """The file cannot be unpacked from here on."""


def chunks(path: Path, size: int) -> Iterator[bytes]:
    """Yields what a file holds, in order; of a plain file, and of a .gz, at most `size` bytes at a time.

    Everything before the damage is yielded first, so that whoever reads can say how far the file is whole.

    Raises:
        Damaged: a compressed file is damaged, or ends before its last frame or member does.
        OSError: of the file.
    """
    with path.open("rb") as file:
        if path.name.endswith(".gz"):
            yield from _gzip(file, size)
        elif path.name.endswith(".zst"):
            yield from _zstd(file)
        else:
            while chunk := file.read(size):
                yield chunk


def _gzip(file: IO[bytes], size: int) -> Iterator[bytes]:
    unpacked = gzip.GzipFile(fileobj=file)
    try:
        # Not read: it would keep what it has unpacked for itself when the end is missing.
        while chunk := unpacked.read1(size):
            yield chunk
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise Damaged(str(error)) from None


def _zstd(file: IO[bytes]) -> Iterator[bytes]:
    """Frame by frame: zstandard's reader of whole files takes a frame that is cut for one that has ended."""
    import zstandard

    decompressor = zstandard.ZstdDecompressor()
    frame = None
    try:
        while packed := file.read(PACKED_BYTES):
            while packed:
                frame = frame or decompressor.decompressobj()
                if chunk := frame.decompress(packed):
                    yield chunk
                packed = frame.unused_data if frame.eof else b""
                frame = None if frame.eof else frame
    except zstandard.ZstdError as error:
        raise Damaged(str(error)) from None
    if frame is not None:
        raise Damaged("the file ends in the middle of a zstd frame")
