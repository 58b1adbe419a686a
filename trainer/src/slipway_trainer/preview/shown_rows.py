"""Rows as they are learned, token by token."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import Any

from slipway_core.protocol.preview import Layer, Piece, ShownRow
from slipway_trainer.data import rows
from slipway_trainer.data.encode import Encoder
from slipway_trainer.data.encoded import Encoded
from slipway_trainer.data.inputs import InputFile
from slipway_trainer.data.reading.block import Block
from slipway_trainer.preview.sampled_file import each_row
from slipway_trainer.step.errors import StepFailure
from slipway_trainer.tokens import tokenizer

MOST_TOKENS = 700
"""Of a row that are shown."""
_HALF = "\ufffd"
"""What a decoder writes for a part of a character."""
_MOST_BYTES = 8
"""Tokens after which a character that does not come out whole is one that the text has."""


def shown(encoder: Encoder, files: Sequence[InputFile], words: Any, *, most: int) -> list[ShownRow]:
    """Returns some rows of a stage, of every file alike, that are learned.

    Args:
        files: whose rows are looked at.
        words: the run's tokenizer.
        most: rows.
    """
    special = frozenset(words.convert_tokens_to_ids(list(tokenizer.renderer(words).special_tokens)))
    found: list[ShownRow] = []
    queues = [_learned(encoder, file) for file in files]
    for row, encoded in (one for turn in zip_longest(*queues) for one in turn if one is not None):
        if len(found) == most:
            break
        found.append(_shown(row, encoded, encoder, words, special))
    return found


def _learned(encoder: Encoder, file: InputFile) -> Iterator[tuple[Block, Encoded]]:
    """Yields each row of which something is learned, with its tokens."""
    for block in file.blocks():
        for row in each_row(block):
            try:
                outputs = encoder(row)
            except StepFailure:
                continue  # It is among the problems.
            yield from ((row, encoded) for encoded, _ in outputs if len(encoded.lengths))


def _shown(row: Block, encoded: Encoded, encoder: Encoder, words: Any, special: frozenset[int]) -> ShownRow:
    texts, start, left = [], 0, MOST_TOKENS
    for length in encoded.text_lengths.tolist():
        stop = start + min(length, left)
        ids = encoded.tokens[start:stop].tolist()
        learn = [True] * len(ids) if encoded.learn is None else encoded.learn[start:stop].tolist()
        learn[:1] = [False]  # Nothing predicts the first token of a text.
        texts.append(list(pieces(ids, learn, words, special)))
        left -= len(ids)
        start += length
        if left <= 0:
            break
    return ShownRow(
        place=f"{row.name}:{row.lines[0]}",
        form=rows.form_of(row, encoder.objective) or "",
        texts=texts,
        cut=int(encoded.lengths.sum()) > MOST_TOKENS,
    )


def pieces(ids: Sequence[int], learn: Sequence[bool], words: Any, special: frozenset[int]) -> Iterator[Piece]:
    """Yields the tokens of a text as text, those of one character together.

    Each is what the text grows by with it: decoded alone, a tokenizer may leave out the space before it.
    """
    done, begun, text = 0, 0, ""
    for end, own in enumerate(ids, 1):
        whole = words.decode(list(ids[begun:end]), skip_special_tokens=False, clean_up_tokenization_spaces=False)
        if whole.endswith(_HALF) and end - done < _MOST_BYTES and end < len(ids):
            continue
        yield Piece(text=whole[len(text) :], layer=_layer(own in special, learn[end - 1]))
        done, text = end, whole
        if own in special:
            # What stands after one is decoded as it is alone, so the text need not be decoded from its start.
            begun, text = end, ""


def _layer(special: bool, learned: bool) -> Layer:
    if special:
        return "SpecialLearned" if learned else "Special"
    return "Learned" if learned else "Read"
