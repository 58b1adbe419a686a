"""The log of a server: bounded, and asked for the line that says why it ended."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from pathlib import Path

from slipway_core.protocol.last_words import reasons, says_more

LIMIT = 8 << 20
"""Bytes that a log may have before its older half moves aside."""
_TAIL = 1 << 16
_ANSI = re.compile(r"\x1b\[[0-9;]*m")
# `(EngineCore pid=12) ERROR 11-25 01:02:03 [core.py:700] ValueError: ...`, with any of the parts before the name.
_EXCEPTION = re.compile(r"(?:^|\s)((?:[A-Za-z_]\w*\.)*[A-Z]\w*(?:Error|Exception|Interrupt|Exit)): \S.*$")
_OWN = re.compile(r"^slipway-server: (.+)$")
_WRITER = re.compile(r"^(?:\([^)]*\) )?(?:[A-Z]+ \d\d-\d\d \S+ (?:\[[^\]]*\] ?)?)?")
# What vLLM says after the line that matters.
_SECOND_HAND = ("See root cause above", "Engine core initialization failed")


def bound(path: Path, limit: int = LIMIT) -> None:
    """Moves a log that has grown too long to `<name>.1`, in place: its writer appends and goes on."""
    if not path.exists() or path.stat().st_size <= limit:
        return
    with contextlib.suppress(OSError):  # On a full disk the log goes all the same.
        shutil.copyfile(path, path.with_name(path.name + ".1"))
    os.truncate(path, 0)


def last_words(path: Path, start: int = 0) -> str | None:
    """Returns the line of a log that says best why its writer ended, None when it said nothing.

    Args:
        start: the log's size when the writer started; what is before was said by another one.
    """
    lines = [line for line in (_ANSI.sub("", raw).strip() for raw in _tail(path, start)) if line]
    if own := [found[1] for line in lines if (found := _OWN.match(line))]:
        return own[-1]
    exceptions = [line[found.start(1) :] for line in lines if (found := _EXCEPTION.search(line))]
    first_hand = [line for line in exceptions if not any(phrase in line for phrase in _SECOND_HAND)]
    for candidates in (first_hand, exceptions, lines):
        if candidates:
            return _whole(candidates[-1], lines)[:500]
    return None


def _whole(line: str, lines: list[str]) -> str:
    """Returns the reason, where a line is the head of an error that has it after it."""
    if not says_more(line):
        return line
    place = max(index for index, one in enumerate(lines) if one.endswith(line))
    # Each line of a log may begin with who wrote it, and when.
    after = [_WRITER.sub("", one) for one in lines[place + 1 :]]
    return next(iter(reasons("\n".join(after))), line)


def _tail(path: Path, start: int) -> list[str]:
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            begin = start if start <= size else 0  # It was bounded meanwhile.
            file.seek(max(begin, size - _TAIL))
            return file.read().decode("utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []
