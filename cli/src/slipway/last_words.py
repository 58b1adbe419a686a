"""The line of a server's output that says best why it ended."""

from __future__ import annotations

import re
from collections.abc import Iterable

from slipway_core.protocol.last_words import reasons, says_more

_ANSI = re.compile(r"\x1b\[[0-9;]*m")
# `(EngineCore pid=12) ERROR 11-25 01:02:03 [core.py:700] ValueError: ...`, with any of the parts before the name.
_EXCEPTION = re.compile(r"(?:^|\s)((?:[A-Za-z_]\w*\.)*[A-Z]\w*(?:Error|Exception|Interrupt|Exit)): \S.*$")
_OWN = re.compile(r"^slipway-server: (.+)$")
_WRITER = re.compile(r"^(?:\([^)]*\) )?(?:[A-Z]+ \d\d-\d\d \S+ (?:\[[^\]]*\] ?)?)?")
# What vLLM says after the line that matters.
_SECOND_HAND = ("See root cause above", "Engine core initialization failed")


def of_lines(said: Iterable[str]) -> str | None:
    """Returns that line of what a server wrote, None when it wrote nothing."""
    lines = [line for line in (_ANSI.sub("", raw).strip() for raw in said) if line]
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
