"""Rows of a data file, checked one by one; what is wrong is named by file and line.

A file is read in blocks of whole rows, so that several processes can check and tokenise it. Nothing that a row means
depends on where a block ends. A text is what its string holds, to the byte: white space at its ends, line ends and how
its characters are composed are the user's. A byte order mark before a row is the file's.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from slipway_trainer.data import compression, json_row, unused_fields
from slipway_trainer.data.text import fault
from slipway_trainer.step.errors import BadData

BLOCK_BYTES = 1 << 20
BLOCK_ROWS = 2048
SUFFIXES = (".jsonl", ".jsonl.gz", ".jsonl.zst", ".parquet")
ROLES = ("system", "user", "assistant")
COLUMNS = ("text", "conversations", "prompt", "answer", *unused_fields.COLUMNS)

Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True)
class Turn:
    role: Role
    content: str


@dataclass(frozen=True)
class Document:
    line: int
    text: str


@dataclass(frozen=True)
class Conversation:
    line: int
    turns: tuple[Turn, ...]

    @property
    def messages(self) -> list[dict[str, str]]:
        return [{"role": turn.role, "content": turn.content} for turn in self.turns]


@dataclass(frozen=True)
class Prompt:
    """A conversation that ends with a user's turn, and what the answer should be."""

    line: int
    turns: tuple[Turn, ...]
    answer: str | None


@dataclass(frozen=True)
class Block:
    """Some whole rows of a file."""

    name: str
    """The file, as errors name it."""
    first: int
    """Line of the first row, from 1; the number of the row in a Parquet file."""
    payload: bytes
    """Lines of JSON, or an Arrow IPC stream."""
    arrow: bool = False


def blocks(path: Path, name: str) -> Iterator[Block]:
    """Yields the rows of a file. Raises BadData when it is missing, empty, unreadable or of another format."""
    if not name.endswith(SUFFIXES) and not str(path).endswith(SUFFIXES):
        raise BadData(f"{name}: not a data file; these are read: {', '.join(SUFFIXES)}")
    empty = True
    try:
        for block in _parquet(path, name) if path.name.endswith(".parquet") else _lines(path, name):
            if block.payload.strip():
                empty = False
                yield block
    except FileNotFoundError:
        raise BadData(f"{name}: there is no such file") from None
    except IsADirectoryError:
        raise BadData(f"{name}: is a folder, not a file") from None
    except PermissionError:
        raise BadData(f"{name}: may not be read; give this user the right to (chmod +r)") from None
    except OSError as error:
        raise BadData(f"{name}: cannot be read: {error.strerror or error}") from None
    if empty:
        raise BadData(f"{name}: is empty. Give it rows, or take it out of the data")


def documents(block: Block) -> list[Document]:
    """Returns the rows {"text"} of a block. Raises BadData that names file and line."""
    found = []
    for line, row in _rows(block):
        _refuse_unused(block, line, row, rendered=False)
        found.append(Document(line, _text(block, line, row)))
    return found


def conversations(block: Block) -> list[Conversation]:
    """Returns the rows {"conversations"} of a block. Raises BadData that names file and line."""
    found = []
    for line, row in _rows(block):
        _refuse_unused(block, line, row)
        turns = _turns(block, line, _field(block, line, row, "conversations"))
        if not any(turn.role == "assistant" for turn in turns):
            raise _bad(block, line, "no assistant turn: there is nothing to learn. Add one, or remove the row")
        found.append(Conversation(line, turns))
    return found


def prompts(block: Block) -> list[Prompt]:
    """Returns the rows {"prompt"} or {"conversations"}, with {"answer"} if given. Raises BadData.

    The last turn of a conversation may be the assistant's: it is the answer then.
    """
    found = []
    for line, row in _rows(block):
        _refuse_unused(block, line, row, learned=False)
        if row.get("conversations") is not None:
            if row.get("prompt") is not None:
                raise _bad(block, line, "two prompts: the field prompt and conversations. Leave one of them out")
            turns = _turns(block, line, row["conversations"])
        else:
            content = _string(block, line, _field(block, line, row, "prompt"), "prompt")
            if not content.strip():
                raise _bad(block, line, "the prompt is empty, or white space alone")
            turns = (Turn("user", content),)
        answer = row.get("answer")
        if answer is not None:
            answer = _string(block, line, answer, "answer")
            if not answer.strip():
                raise _bad(
                    block,
                    line,
                    "the answer is empty, or white space alone. Leave it out when there is none to compare with",
                )
        if turns[-1].role == "assistant":
            if answer is not None:
                raise _bad(block, line, "two answers: the field answer and an assistant turn at the end")
            turns, answer = turns[:-1], turns[-1].content
        if not turns or turns[-1].role != "user":
            raise _bad(block, line, "no user turn that the model could answer")
        found.append(Prompt(line, turns, answer))
    return found


def _text(block: Block, line: int, row: dict[str, Any]) -> str:
    text = _string(block, line, _field(block, line, row, "text"), "text")
    if not text.strip():
        raise _bad(block, line, "the text is empty, or white space alone. Remove the row")
    return text


def _refuse_unused(
    block: Block, line: int, row: dict[str, Any], *, rendered: bool = True, learned: bool = True
) -> None:
    if problem := unused_fields.problem(row, rendered=rendered, learned=learned):
        raise _bad(block, line, problem)


def _turns(block: Block, line: int, value: Any) -> tuple[Turn, ...]:
    if not isinstance(value, list) or not value:
        raise _bad(block, line, f"conversations is {_shown(value)}; it must be a list of turns")
    turns = []
    for number, turn in enumerate(value, 1):
        if not isinstance(turn, dict) or "role" not in turn or "content" not in turn:
            hint = (
                " (rename from to role and value to content)"
                if isinstance(turn, dict) and {"from", "value"} <= turn.keys()
                else ""
            )
            raise _bad(block, line, f'turn {number} is {_shown(turn)}; it must be {{"role", "content"}}{hint}')
        if turn["role"] not in ROLES:
            raise _bad(
                block, line, f"turn {number} has the unknown role {_shown(turn['role'])}; use {', '.join(ROLES)}"
            )
        role = cast(Role, turn["role"])
        content = _string(block, line, turn["content"], f"the content of turn {number} ({role})")
        if not content.strip():
            raise _bad(
                block,
                line,
                f"turn {number} is an empty {role} turn, or white space alone. Fill it in, or remove the row",
            )
        turns.append(Turn(role, content))
    return tuple(turns)


def _field(block: Block, line: int, row: dict[str, Any], field: str) -> Any:
    value = row.get(field)
    if value is not None:
        return value
    hints = {
        "text": 'CausalLM learns from {"text": …} rows',
        "conversations": 'Chat learns from {"conversations": [{"role", "content"}, …]} rows',
        "prompt": 'a prompt is a {"prompt": …} or {"conversations": …} row',
    }
    if field in row:
        raise _bad(block, line, f"{field!r} is null. {hints[field]}; fill it in, or remove the row")
    has = f"it has {', '.join(map(repr, list(row)[:6]))}" if row else "it has no field at all"
    rename = "; rename messages to conversations" if "messages" in row and field != "text" else ""
    raise _bad(block, line, f"no {field!r}: {has}. {hints[field]}{rename}")


def _string(block: Block, line: int, value: Any, what: str) -> str:
    if not isinstance(value, str):
        raise _bad(block, line, f"{what} is {_shown(value)}; it must be a string")
    if problem := fault(value):
        raise _bad(block, line, f"{what} has {problem}")
    return value


def _rows(block: Block) -> Iterator[tuple[int, dict[str, Any]]]:
    if block.arrow:
        yield from _arrow_rows(block)
        return
    decoder = json_row.decoder()
    for line, raw in enumerate(block.payload.split(b"\n"), block.first):
        if not raw.strip():
            continue
        try:
            row = decoder.decode(raw.decode("utf-8").removeprefix("\ufeff"))
        except UnicodeDecodeError as error:
            utf16 = raw.startswith((b"\xff\xfe", b"\xfe\xff"))
            fix = "The file looks like UTF-16; save it as UTF-8" if utf16 else "Save the file as UTF-8"
            where = f"byte 0x{raw[error.start]:02x} at {error.start + 1}"
            raise _bad(block, line, f"not UTF-8: {where}. {fix}") from None
        except json.JSONDecodeError as error:
            problem = error.msg.removesuffix(" at")
            raise _bad(
                block, line, f"not JSON: {problem} at column {error.colno}. The line is {_shown_line(raw)}"
            ) from None
        except json_row.RepeatedKey as error:
            raise _bad(
                block, line, f"the key {_shown(str(error))} stands twice in one object. Keep one of the two"
            ) from None
        except RecursionError:
            raise _bad(block, line, "not a row: brackets are nested too deeply") from None
        if not isinstance(row, dict):
            hint = ". Write one row a line, without brackets and commas around them" if isinstance(row, list) else ""
            raise _bad(block, line, f"a row must be an object {{…}}; this one is {_shown(row)}{hint}")
        yield line, row


def _arrow_rows(block: Block) -> Iterator[tuple[int, dict[str, Any]]]:
    import pyarrow as arrow

    with arrow.ipc.open_stream(block.payload) as stream:
        table = stream.read_all()
    try:
        rows = table.to_pylist()
    except Exception as error:
        # Text that is no UTF-8, times that Python has not, a field twice: each is an error of another class.
        raise _bad(block, block.first + _first_unreadable(table), f"a value cannot be read: {error}") from None
    yield from enumerate(rows, block.first)


def _first_unreadable(table: Any) -> int:
    for number in range(table.num_rows):
        try:
            table.slice(number, 1).to_pylist()
        except Exception:
            return number
    return 0


def _lines(path: Path, name: str) -> Iterator[Block]:
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
        raise BadData(
            f"{name}: cannot be unpacked after line {ended}: {error}. Copy the file again, or make it anew"
        ) from None
    yield Block(name, first, b"".join(held))


def _parquet(path: Path, name: str) -> Iterator[Block]:
    import pyarrow as arrow
    from pyarrow import parquet

    first = 1
    try:
        with parquet.ParquetFile(path, page_checksum_verification=True) as file:
            # All columns when none of ours is there: the error then says what the rows have instead.
            names = file.schema_arrow.names
            if twice := next((column for column in COLUMNS if names.count(column) > 1), None):
                raise BadData(f"{name}: has two columns {twice!r}. Keep one of them")
            columns = [column for column in names if column in COLUMNS] or None
            for batch in file.iter_batches(batch_size=BLOCK_ROWS, columns=columns, use_threads=False):
                sink = arrow.BufferOutputStream()
                with arrow.ipc.new_stream(sink, batch.schema) as writer:
                    writer.write_batch(batch)
                if batch.num_rows:
                    yield Block(name, first, sink.getvalue().to_pybytes(), arrow=True)
                first += batch.num_rows
    except arrow.ArrowException as error:
        raise BadData(f"{name}: is no readable Parquet file (after row {first - 1}): {error}") from None


def _bad(block: Block, line: int, problem: str) -> BadData:
    return BadData(f"{block.name}:{line}: {problem}.")


def _shown(value: Any) -> str:
    text = _printable(json.dumps(value, ensure_ascii=False, default=repr))
    return text if len(text) <= 60 else text[:57] + "…"


def _shown_line(raw: bytes) -> str:
    text = raw.decode("utf-8", "replace")
    return repr(_printable(text[:50])) + ("…" if len(text) > 50 else "")


def _printable(text: str) -> str:
    """Half a surrogate pair cannot be printed or put into a result."""
    return text.encode("utf-8", "backslashreplace").decode()
