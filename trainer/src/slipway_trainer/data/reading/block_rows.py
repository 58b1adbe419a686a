"""The rows of a block: JSON objects, or those of an Arrow table; each with its line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, cast

from slipway_trainer.data import json_row
from slipway_trainer.data.bad_row import printable, shown
from slipway_trainer.data.reading.block import Block, bad

LONGEST_ROW = 16 << 20
"""Bytes. Measured: a text of 20 MB took 3.4 GB to prepare."""
_PACKED = (b"\x1f\x8b", b"\x28\xb5\x2f\xfd")
"""How files of gzip and zstd begin."""


def rows_of(block: Block) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yields line and row. Raises BadData that names file and line."""
    return _arrow_rows(block) if block.arrow else _json_rows(block)


def _json_rows(block: Block) -> Iterator[tuple[int, dict[str, Any]]]:
    decoder = json_row.decoder()
    for number, raw in enumerate(block.payload.split(b"\n")):
        if not raw.strip():
            continue
        line = _line(block, number)
        if len(raw) > LONGEST_ROW:
            raise bad(block.name, line, too_long(f"{len(raw):,}"))
        try:
            row = decoder.decode(raw.decode("utf-8").removeprefix("\ufeff"))
        except UnicodeDecodeError as error:
            raise bad(block.name, line, not_utf8(raw, error)) from None
        except json.JSONDecodeError as error:
            problem = error.msg.removesuffix(" at")
            raise bad(
                block.name,
                line,
                f"not JSON: {problem} at column {error.colno}. The line is {_shown_line(raw)}. {_json_fix(raw)}",
            ) from None
        except json_row.RepeatedKey as error:
            raise bad(
                block.name, line, f"the key {shown(str(error))} stands twice in one object. Keep one of the two"
            ) from None
        except RecursionError:
            raise bad(block.name, line, json_row.TOO_DEEP) from None
        if not isinstance(row, dict):
            hint = ". Write one row a line, or call the file .json" if isinstance(row, list) else ""
            raise bad(block.name, line, f"a row must be an object {{…}}; this one is {shown(row)}{hint}")
        yield line, row


def _line(block: Block, number: int) -> int:
    return block.lines[number] if block.lines else block.first + number


def not_utf8(raw: bytes, error: UnicodeDecodeError) -> str:
    """Returns what is wrong with text that is no UTF-8."""
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        fix = "The file looks like UTF-16; save it as UTF-8"
    elif raw.startswith(_PACKED):
        fix = "The file is packed: end its name in .gz or .zst"
    else:
        fix = "Save the file as UTF-8" + _windows(raw, error.start)
    return f"not UTF-8: byte 0x{raw[error.start]:02x} at {error.start + 1}. {fix}"


def _windows(raw: bytes, place: int) -> str:
    """Returns what the text would be, were it written by an older program on Windows, as the end of an error."""
    try:
        around = raw[max(place - 12, 0) : place + 12].decode("cp1252")
    except UnicodeDecodeError:
        return ""
    return f"; in Windows-1252 it would say {shown(around)}"


def too_long(size: str = f"{LONGEST_ROW:,} or more") -> str:
    """Returns what is wrong with a row of so many bytes; of one that is not read to its end, where no size is given."""
    return (
        f"the row has {size} bytes, and {LONGEST_ROW:,} are the most: all words and tokens of a text are held in "
        "memory together. Split it into documents; of a .txt file each paragraph may be one (documents: Paragraph)"
    )


def _json_fix(raw: bytes) -> str:
    if b"\0" in raw:
        return "It has NUL bytes, as a file in UTF-16 has: save it as UTF-8"
    if raw.startswith(b"version https://git-lfs"):
        return "It is a pointer of Git LFS: fetch the file by git lfs pull"
    if b"\r" in raw.strip():
        return "Lines end with a line feed, and it has carriage returns alone: save the file with line feeds"
    return "Write one object {…} a line"


def _arrow_rows(block: Block) -> Iterator[tuple[int, dict[str, Any]]]:
    import pyarrow as arrow

    with arrow.ipc.open_stream(block.payload) as stream:
        table = stream.read_all()
    try:
        rows = table.to_pylist()
    except Exception as error:
        # Text that is no UTF-8, times that Python has not, a field twice: each is an error of another class.
        line = _line(block, _first_unreadable(table))
        raise bad(block.name, line, f"a value cannot be read: {error}") from None
    for number, row in enumerate(rows):
        line = _line(block, number)
        if table.nbytes > LONGEST_ROW and (size := _text_bytes(row)) > LONGEST_ROW:
            raise bad(block.name, line, too_long(f"{size:,}"))
        yield line, {name: _without_nulls(value) for name, value in row.items()}


def _text_bytes(value: Any) -> int:
    """Returns the size of all texts that stand somewhere in a value."""
    if isinstance(value, str):
        return len(value.encode())
    if isinstance(value, dict):
        return sum(map(_text_bytes, cast(dict[str, Any], value).values()))
    return sum(map(_text_bytes, cast(list[Any], value))) if isinstance(value, list) else 0


def _without_nulls(value: Any) -> Any:
    """Objects of such a file have all fields that any of them has, as nulls: they say nothing."""
    if isinstance(value, dict):
        return {key: _without_nulls(held) for key, held in cast(dict[str, Any], value).items() if held is not None}
    return [_without_nulls(held) for held in cast(list[Any], value)] if isinstance(value, list) else value


def _first_unreadable(table: Any) -> int:
    for number in range(table.num_rows):
        try:
            table.slice(number, 1).to_pylist()
        except Exception:
            return number
    return 0


def _shown_line(raw: bytes) -> str:
    text = raw.decode("utf-8", "replace")
    return repr(printable(text[:50])) + ("…" if len(text) > 50 else "")
