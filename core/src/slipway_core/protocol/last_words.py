"""What a process said last, without what the library that checks its options says around it."""

from __future__ import annotations

import re
from typing import Final

_AROUND: Final = re.compile(r"For further information visit \S+|(\S+: )?\d+ validation errors? for .+")
"""Whole lines of pydantic, one before and one after what is wrong."""
_WITHIN: Final = re.compile(r"^Value error, | \[type=\w+, input_value=.*\]$")


def says_more(line: str) -> bool:
    """Whether a line is only the head of an error whose reason stands in the lines after it."""
    return re.search(r"\d+ validation errors? for ", line) is not None


def reasons(text: str) -> list[str]:
    """Returns the lines of a text that say something, in order."""
    lines = (line.strip() for line in text.splitlines())
    return [_WITHIN.sub("", line) for line in lines if line and not _AROUND.fullmatch(line)]
