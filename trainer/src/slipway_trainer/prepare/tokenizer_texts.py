"""The texts that a run's tokenizer is trained on."""

from __future__ import annotations

from collections.abc import Iterator

from slipway_trainer.data import rows, scan, validation_split
from slipway_trainer.data.inputs import Inputs
from slipway_trainer.data.rows import Conversation
from slipway_trainer.tokens import chat_templates
from slipway_trainer.tokens.tokenizer import Style

MOST_CHARACTERS = 32 << 20
"""Of which a tokenizer is trained at most, in even shares of all data; more makes it slower and no better."""


class _Sample:
    """Lets every distinct text through once, or an even share of them."""

    def __init__(self, share: float) -> None:
        self._limit = int(share * (1 << 64))
        self._seen: set[int] = set()

    def takes(self, text: str) -> bool:
        key = validation_split.key(text)
        if key >= self._limit or key in self._seen:
            return False
        self._seen.add(key)
        return True


def texts(found: Inputs, style: Style, characters: int) -> Iterator[str]:
    """Yields every distinct text of the training data once, or an even share of them when there is very much.

    Args:
        style: of the chat template, whose words stand around every turn.
        characters: of all training data.
    """
    sample = _Sample(min(1.0, MOST_CHARACTERS / max(1, characters)))
    chosen = "ChatML" if style == "Auto" else style
    for objective, file in found.training_files():
        for block in file.blocks():
            if objective == "CausalLM":
                yield from (row.text for row in rows.documents(block) if sample.takes(row.text))
            else:
                yield from _spoken(scan.spoken(block, objective), sample, chosen)


def _spoken(found: list[Conversation], sample: _Sample, style: chat_templates.Style) -> Iterator[str]:
    frame, of_tools = chat_templates.words(style), chat_templates.tool_words(style)
    for row in found:
        taken = [turn.said for turn in row.turns if sample.takes(turn.said)]
        yield from taken
        if row.tools and sample.takes(row.tools):
            yield row.tools
        if taken:
            yield frame
            if row.tools and of_tools:
                yield of_tools
