"""Files that are one JSON list of objects. A file of this kind that has an object a line is read as such."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from pathlib import Path

from slipway_trainer.data import json_row
from slipway_trainer.data.bad_row import shown
from slipway_trainer.data.reading import compression, json_lines
from slipway_trainer.data.reading.block import BLOCK_BYTES, Block, Reading, bad
from slipway_trainer.data.reading.block_rows import LONGEST_ROW, not_utf8, too_long
from slipway_trainer.step.errors import BadData

_LONGEST_WORD = 16
"""Characters before the end of what is held in which an error may come of the cut alone."""
_SHOWN = 20
_SPACE = re.compile(r"[ \t\r\n]*")


def blocks(path: Path, name: str, reading: Reading) -> Iterator[Block]:
    """Yields the objects of a list, or of the lines of a file. Raises BadData."""
    try:
        if _begins_with_bracket(path):
            yield from _elements(path, name)
            return
    except compression.Damaged as error:
        raise json_lines.damaged(name, "line 0", error) from None
    for block in json_lines.blocks(path, name, reading):
        if block.first == 1 and _is_begun(block.payload.partition(b"\n")[0]):
            raise bad(
                name,
                1,
                "the file is one object of several lines. Rows are a list, [{…}, …], or an object a line: write the "
                "rows that it holds into a file of their own",
            )
        yield block


def _is_begun(line: bytes) -> bool:
    """Whether a line begins an object that a later one ends."""
    return line.removeprefix(codecs.BOM_UTF8).lstrip().startswith(b"{") and line.rstrip().endswith((b"{", b"["))


def _begins_with_bracket(path: Path) -> bool:
    for chunk in compression.chunks(path, BLOCK_BYTES):
        if begin := chunk.removeprefix(codecs.BOM_UTF8).lstrip():
            return begin.startswith(b"[")
    return False


def _elements(path: Path, name: str) -> Iterator[Block]:
    """Each element becomes a line: outside of its strings, where none may stand, line ends mean nothing."""
    text = _Text(path, name)
    text.skip("[", "a list begins with [")
    rows: list[str] = []
    lines: list[int] = []
    size = 0
    if text.peek() == "]":
        text.skip("]", "")
    else:
        while True:
            text.peek()
            lines.append(text.line)
            rows.append(text.element().replace("\n", " ").replace("\r", " "))
            size += len(rows[-1])
            if size >= BLOCK_BYTES:
                yield Block(name, lines[0], "\n".join(rows).encode(), lines=tuple(lines))
                rows, lines, size = [], [], 0
            if text.peek() == "]":
                text.skip("]", "")
                break
            text.skip(",", "elements of a list are separated by commas")
    if text.peek():
        raise text.bad("something stands after the list")
    yield Block(name, lines[0] if lines else 1, "\n".join(rows).encode(), lines=tuple(lines))


class _Text:
    """What was unpacked of a file and not taken yet."""

    def __init__(self, path: Path, name: str) -> None:
        self.line = 1
        self._name, self._chunks = name, self._decoded(path)
        self._held, self._place = "", 0
        self._decoder = json_row.decoder()

    def peek(self) -> str:
        """Returns the next character that is no white space, without taking it; an empty text at the end."""
        while True:
            self._move(_SPACE.match(self._held, self._place).end())  # type: ignore[union-attr]
            if self._place < len(self._held) or not self._more(BLOCK_BYTES):
                return self._held[self._place : self._place + 1]

    def skip(self, character: str, otherwise: str) -> None:
        if self.peek() != character:
            raise self.bad(otherwise if self.peek() else "the list has no end: ] is missing. Copy the file again")
        self._move(self._place + 1)

    def element(self) -> str:
        """Returns the text of the element that begins here."""
        while True:
            try:
                _, end = self._decoder.raw_decode(self._held, self._place)
            except json_row.RepeatedKey as error:
                raise self.bad(f"the key {shown(str(error))} stands twice in one object. Keep one of the two") from None
            except RecursionError:
                raise self.bad(json_row.TOO_DEEP) from None
            except json.JSONDecodeError as error:
                cut = error.pos >= len(self._held) - _LONGEST_WORD or error.msg.startswith("Unterminated string")
                # Its end may not be unpacked yet. Each try has twice as much of it, so that few are made.
                if cut and (held := len(self._held) - self._place) > LONGEST_ROW:
                    raise self.bad(too_long()) from None
                if cut and self._more(2 * held):
                    continue
                near = shown(self._held[max(self._place, error.pos - _SHOWN) : error.pos + _SHOWN])
                self._move(error.pos)
                raise self.bad(f"not JSON: {error.msg.removesuffix(' at')}, near {near}") from None
            if end == len(self._held) and self._more():
                continue  # A number may go on.
            found = self._held[self._place : end]
            self._move(end)
            return found

    def bad(self, problem: str) -> BadData:
        return bad(self._name, self.line, problem)

    def _move(self, place: int) -> None:
        self.line += self._held.count("\n", self._place, place)
        self._place = place

    def _more(self, characters: int = 1) -> bool:
        """Unpacks until so many are held. Says whether there was any more."""
        parts = [self._held[self._place :]]
        count = len(parts[0])
        for chunk in self._chunks:
            parts.append(chunk)
            count += len(chunk)
            if count >= characters:
                break
        self._held, self._place = "".join(parts), 0
        return any(parts[1:])

    def _decoded(self, path: Path) -> Iterator[str]:
        decoder = codecs.getincrementaldecoder("utf-8-sig")()
        try:
            for chunk in compression.chunks(path, BLOCK_BYTES):
                try:
                    yield decoder.decode(chunk)
                except UnicodeDecodeError as error:
                    raise self.bad(not_utf8(error.object, error)) from None
            if decoder.getstate()[0]:
                raise self.bad("not UTF-8: the file ends in the middle of a character. Copy the file again")
        except compression.Damaged as error:
            raise json_lines.damaged(self._name, f"line {self.line}", error) from None
