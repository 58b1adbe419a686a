"""What a server said, as a message can show it: without the key, on one line, and cut."""

from __future__ import annotations

_QUOTED = 240
"""Characters of a response that a message shows."""


def without_key(text: str, key: str | None) -> str:
    return text.replace(key, "***") if key else text


def quoted(text: str, key: str | None) -> str:
    line = " ".join(without_key(text, key).split())
    line = "".join(one if one.isprintable() else "?" for one in line)
    return line if len(line) <= _QUOTED else f"{line[:_QUOTED]}…"
