"""Files of plain text: each one document, or one a paragraph."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from slipway_trainer.data.reading import text_lines
from slipway_trainer.data.reading.block import BLOCK_BYTES, Block, Reading, bad
from slipway_trainer.data.reading.block_rows import LONGEST_ROW, too_long


def blocks(path: Path, name: str, reading: Reading) -> Iterator[Block]:
    """Yields the documents of a file, each with the line on which it begins. Raises BadData.

    Paragraphs are separated by empty lines, or lines of white space, which belong to none of them.
    """
    if reading.documents == "File":
        text = _whole(path, name)
        if text.strip():
            yield _block(name, [text], [1])
        return
    texts: list[str] = []
    lines: list[int] = []
    held: list[str] = []
    size = 0
    for number, line in enumerate(text_lines.lines(path, name), 1):
        if line.strip():
            if not held:
                lines.append(number)
            held.append(line)
            continue
        if held:
            texts.append(_paragraph(held))
            size, held = size + len(texts[-1]), []
        if size >= BLOCK_BYTES:
            yield _block(name, texts, lines)
            texts, lines, size = [], [], 0
    if held:
        texts.append(_paragraph(held))
    if texts:
        yield _block(name, texts, lines)


def _whole(path: Path, name: str) -> str:
    """Returns a file as one text; of one that is too long to be a row, which may be larger than the memory, no more is
    read than says so."""
    held: list[str] = []
    size = 0
    for line in text_lines.lines(path, name):
        held.append(line)
        size += len(line)
        if size > LONGEST_ROW:
            raise bad(name, 1, too_long())
    return "".join(held)


def _paragraph(lines: list[str]) -> str:
    """The end of its last line separates it from the next one."""
    return "".join(lines).removesuffix("\n").removesuffix("\r")


def _block(name: str, texts: list[str], lines: list[int]) -> Block:
    payload = "\n".join(json.dumps({"text": text}, ensure_ascii=False) for text in texts)
    return Block(name, lines[0], payload.encode(), lines=tuple(lines))
