"""What deduplication knows of a row: a key of all that is learned of it, and sketches of what it says.

A row is the same as another where the key is: its text with what of it is learned, or every turn of a conversation with
what it may call; columns that are not learned do not count. Rows say nearly the same where the runs of five units
(`text.units`: words, or characters of scripts without spaces) are the same for the most part, by MinHash (A. Z. Broder,
1997), of all that is said and of what is learned of it. Both, since questions about one long passage share nearly all
of their words. What the system's turn says does not count there: many conversations begin with the same page of it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from slipway_trainer.data.rows import Conversation, Document
from slipway_trainer.data.text import units

GRAM = 5
PERMUTATIONS = 128
SKETCHES = 2
"""Of a row: of all that it says, and of what is learned of it."""
_SEED = 1
_INSTRUCTING = ("system", "developer")


@dataclass(frozen=True)
class Marks:
    """Of the rows of a block, in their order."""

    lines: np.ndarray
    """uint32 [rows]."""
    keys: np.ndarray
    """uint64 [rows]: equal for equal rows; two others of ten million have the same one with a chance of 3e-6."""
    sketches: np.ndarray | None
    """uint8 [rows, SKETCHES, PERMUTATIONS]: the lowest byte of each minimum (P. Li, A. C. König, 2010). None where
    near rows are not asked for."""


def of_documents(found: Sequence[Document], *, near: bool) -> Marks:
    """Returns the marks of texts."""
    said = [(row.text, row.text[row.prompt :]) for row in found]
    return _marks(found, (_key([row.prompt, row.text]) for row in found), said if near else None)


def of_conversations(found: Sequence[Conversation], *, near: bool) -> Marks:
    """Returns the marks of conversations."""
    said = [(_said(row, learned=False), _said(row, learned=True)) for row in found] if near else None
    return _marks(found, map(_key_of_conversation, found), said)


def _marks(found: Sequence[Document | Conversation], keys: Iterable[int], said: list[tuple[str, str]] | None) -> Marks:
    sketches = None
    if said is not None:
        sketches = np.zeros((len(found), SKETCHES, PERMUTATIONS), np.uint8)
        for number, (whole, learned) in enumerate(said):
            sketches[number, 0] = _sketch(whole)
            sketches[number, 1] = sketches[number, 0] if learned == whole else _sketch(learned)
    return Marks(
        lines=np.array([row.line for row in found], np.uint32),
        keys=np.fromiter(keys, np.uint64, count=len(found)),
        sketches=sketches,
    )


def _sketch(text: str) -> np.ndarray:
    # It is compiled, and loaded only where it is asked for.
    import rensa

    found = units(text)
    grams = [" ".join(found[start : start + GRAM]) for start in range(max(1, len(found) - GRAM + 1))]
    sketch = rensa.RMinHash(num_perm=PERMUTATIONS, seed=_SEED)  # pyright: ignore[reportAttributeAccessIssue]
    sketch.update(grams)
    return np.array(sketch.digest(), np.uint32).astype(np.uint8)


def _key(row: Any) -> int:
    words = json.dumps(row, ensure_ascii=False).encode()
    return int.from_bytes(hashlib.blake2b(words, digest_size=8).digest(), "little")


def _key_of_conversation(row: Conversation) -> int:
    turns = [
        [
            turn.role,
            turn.content,
            learned,
            turn.reasoning,
            [[call.name, call.arguments, call.id] for call in turn.tool_calls],
            turn.tool_call_id,
            turn.name,
        ]
        for turn, learned in zip(row.turns, row.learned, strict=True)
    ]
    return _key([turns, row.tools])


def _said(row: Conversation, *, learned: bool) -> str:
    return "\n".join(
        turn.said
        for turn, is_learned in zip(row.turns, row.learned, strict=True)
        if (is_learned if learned else turn.role not in _INSTRUCTING)
    )
