"""Parquet and Arrow files, of which only the columns are read that something may ask for."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from slipway_trainer.data.formats import answer_checks, row_format, row_labels, unused_fields
from slipway_trainer.data.reading import compression, json_lines
from slipway_trainer.data.reading.block import BLOCK_BYTES, BLOCK_ROWS, Block, Reading
from slipway_trainer.step.errors import BadData

if TYPE_CHECKING:
    import pyarrow

_KNOWN = (*row_format.COLUMNS, *unused_fields.READ, *row_labels.FIELDS, *answer_checks.FIELDS)
_FILE_MAGIC = b"ARROW1"
_STREAM_END = b"\xff\xff\xff\xff\0\0\0\0"


def parquet_blocks(path: Path, name: str, reading: Reading) -> Iterator[Block]:
    """Yields the rows of a Parquet file. Raises BadData when it is damaged."""
    import pyarrow as arrow
    from pyarrow import parquet

    done = 0
    try:
        with _unpacked(path, name) as source, parquet.ParquetFile(source, page_checksum_verification=True) as file:
            wanted, unread = _columns(file.schema_arrow, name, reading)
            for batch in file.iter_batches(batch_size=BLOCK_ROWS, columns=wanted, use_threads=False):
                yield from _blocks(name, done, batch, unread)
                done += batch.num_rows
    except arrow.ArrowException as error:
        raise BadData(f"{name}: is no readable Parquet file (after row {done}): {error}") from None


def arrow_blocks(path: Path, name: str, reading: Reading) -> Iterator[Block]:
    """Yields the rows of an Arrow file or stream, as the library datasets keeps them. Raises BadData."""
    import pyarrow as arrow

    done = 0
    try:
        with _unpacked(path, name) as source:
            begin = source.read(len(_FILE_MAGIC))
            source.seek(0)
            if begin == _FILE_MAGIC:
                file = arrow.ipc.open_file(source)
                schema, batches = file.schema, (file.get_batch(number) for number in range(file.num_record_batches))
            else:
                _require_end(source)
                stream = arrow.ipc.open_stream(source)
                schema, batches = stream.schema, iter(stream)
            wanted, unread = _columns(schema, name, reading)
            for batch in batches:
                own = batch if wanted is None else batch.select(wanted)
                for start in range(0, own.num_rows, BLOCK_ROWS):
                    yield from _blocks(name, done + start, own.slice(start, BLOCK_ROWS), unread)
                done += own.num_rows
    except (arrow.ArrowException, EOFError) as error:
        raise BadData(f"{name}: is no readable Arrow file (after row {done}): {error}") from None


def _require_end(source: IO[bytes]) -> None:
    """Raises EOFError for a stream that is cut: between two batches, Arrow takes that for its end."""
    source.seek(0, os.SEEK_END)
    source.seek(max(0, source.tell() - len(_STREAM_END)))
    whole = source.read() == _STREAM_END
    source.seek(0)
    if not whole:
        raise EOFError("its end mark is missing. Copy the file again, or make it anew")


def _columns(schema: pyarrow.Schema, name: str, reading: Reading) -> tuple[list[str] | None, tuple[str, ...]]:
    """Returns the columns to read, and those that nothing asks for.

    All are read where none is ours: the error then says what the rows have instead. Raises BadData for a column that
    is asked for and holds files.
    """
    names: list[str] = schema.names
    asked = {column for _, column in reading.columns}
    known = {*_KNOWN, *asked}
    if twice := next((column for column in names if column in known and list(names).count(column) > 1), None):
        raise BadData(f"{name}: has two columns {twice!r}. Keep one of them")
    if not any(column in (*row_format.COLUMNS, *asked) for column in names):
        return None, ()
    for column in names:
        if column in (*row_format.COLUMNS, *asked) and _holds_files(schema.field(column).type):
            raise BadData(
                f"{name}: the column {column!r} holds files, such as pictures or sound: models of text alone are "
                "trained. Choose another by `columns`, or rename it"
            )
    return [column for column in names if column in known], tuple(column for column in names if column not in known)


def _holds_files(kind: pyarrow.DataType) -> bool:
    """Whether a column is one of files as the library datasets keeps them, or of lists of such."""
    import pyarrow as arrow

    if arrow.types.is_list(kind) or arrow.types.is_large_list(kind):
        return _holds_files(kind.value_type)
    return arrow.types.is_struct(kind) and {field.name for field in kind} == {"bytes", "path"}


def _blocks(name: str, done: int, batch: pyarrow.RecordBatch, unread: tuple[str, ...]) -> Iterator[Block]:
    """Yields the rows of a batch in blocks about as large as those of any other file.

    What a process holds of a block is twenty times its text: 2048 rows of 18 KB took 770 MB at once.
    """
    if not batch.num_rows:
        return
    if batch.nbytes > BLOCK_BYTES and batch.num_rows > 1:
        half = batch.num_rows // 2
        parts = batch.slice(0, half), batch.slice(half)
        # Where a column is a list of words and numbers in it, each part has all of the words.
        if sum(part.nbytes for part in parts) < 1.5 * batch.nbytes:
            yield from _blocks(name, done, parts[0], unread)
            yield from _blocks(name, done + half, parts[1], unread)
            return
    yield Block(name, done + 1, _stream(batch), arrow=True, unread=unread)


def _stream(batch: pyarrow.RecordBatch) -> bytes:
    import pyarrow as arrow

    sink = arrow.BufferOutputStream()
    with arrow.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return sink.getvalue().to_pybytes()


@contextmanager
def _unpacked(path: Path, name: str) -> Iterator[IO[Any]]:
    """Opens a file; one that is compressed as a whole is unpacked first, since it is read from its end."""
    if not path.name.endswith((".gz", ".zst")):
        with path.open("rb") as file:
            yield file
        return
    with tempfile.TemporaryFile() as file:
        try:
            for chunk in compression.chunks(path, BLOCK_BYTES):
                file.write(chunk)
        except compression.Damaged as error:
            raise json_lines.damaged(name, f"{file.tell()} bytes", error) from None
        file.seek(0)
        yield file
