"""What a server said, as a message can show it: without the key, on one line, and cut."""

from __future__ import annotations

_QUOTED = 240
"""Characters of a response that a message shows."""
_ENDING = 60
"""Those of the end of a reply, by which one sees whether it went in circles."""


def without_key(text: str, key: str | None) -> str:
    return text.replace(key, "***") if key else text


def quoted(text: str, key: str | None) -> str:
    line = _line(text, key)
    return line if len(line) <= _QUOTED else f"{line[:_QUOTED]}…"


def ending(text: str, key: str | None) -> str:
    """Returns the end of what was said."""
    return f"…{_line(text, key)[-_ENDING:]}"


def _line(text: str, key: str | None) -> str:
    line = " ".join(without_key(text, key).split())
    return "".join(one if one.isprintable() else "?" for one in line)
