"""Held-out texts and conversations, put to tokenizer and chat template before anything is trained: evaluate would find
out too late."""

from __future__ import annotations

from transformers import PreTrainedTokenizerFast

from slipway_trainer.data import lost_text
from slipway_trainer.data.held_out import HeldOut
from slipway_trainer.data.scored_conversations import MAX_WINDOW, Spoken, as_scored, named, tokens_of
from slipway_trainer.model.context_length import ContextLength


def warnings(
    held: HeldOut, words: PreTrainedTokenizerFast, longest: ContextLength | None, *, virtual: int = 0
) -> list[str]:
    """Returns a sentence where answers are too long to be scored, or where the template does not tell their place, and
    where too much of texts or answers is lost.

    Args:
        longest: how many tokens the model takes; None when nothing says it.
        virtual: how many of them stand in front of every text.

    Raises BadData for a conversation that the template refuses, and BadModel.
    """
    said: list[str] = []
    texts = [one.row.text for one in held.documents]
    if texts and (why := lost_text.too_much(*(float(own.sum()) for own in lost_text.of_texts(words, texts)))):
        said.append(f"evaluation.data: of the {len(texts):,} documents {why}")
    if not held.conversations:
        return said
    window = min(MAX_WINDOW, (longest.tokens - virtual) if longest is not None else MAX_WINDOW) + 1
    spoken = [Spoken(one.row, one.place) for one in held.conversations]
    found = as_scored(tokens_of(words), spoken, window)
    if why := lost_text.too_much(sum(one.lost for one in found), sum(one.characters for one in found)):
        said.append(f"evaluation.data: of the answers of the {len(found):,} conversations {why}")
    for count, what in (
        ([one.too_long for one in found], f"end beyond {window} tokens, which is as long a text as is scored,"),
        ([one.unplaced for one in found], "open their conversation, where the chat template does not tell them apart,"),
    ):
        some = [one.place for one, number in zip(held.conversations, count, strict=True) if number]
        if some:
            said.append(
                f"evaluation.data: {sum(count)} answers of {len(some)} conversations {what} and will not be scored "
                f"({named(some)})"
            )
    return said
