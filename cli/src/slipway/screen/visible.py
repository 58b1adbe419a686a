"""Characters that steer a terminal or turn the direction of a text, as signs that a person sees."""

from __future__ import annotations

import unicodedata
from typing import Any

_DIRECTIONS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""They reach beyond the token in which they stand, over what is said of it."""


def visible(value: Any) -> Any:
    """Returns a document whose texts can be printed: rows, answers and the names of files are somebody else's.

    Line ends and tabs stay. Of a carriage return a terminal and a browser show nothing, though it is learned.
    """
    match value:
        case str():
            return value if value.isprintable() else "".join(map(_sign, value))
        case dict():
            return {visible(key): visible(one) for key, one in value.items()}
        case list() | tuple():
            return [visible(one) for one in value]
        case _:
            return value


def _sign(character: str) -> str:
    if character in "\n\t":
        return character
    if character < " ":
        return chr(0x2400 + ord(character))
    if character == "\x7f":
        return "\u2421"
    if character in _DIRECTIONS or unicodedata.category(character) in ("Cc", "Cs"):
        return f"⟨U+{ord(character):04X}⟩"
    return character
