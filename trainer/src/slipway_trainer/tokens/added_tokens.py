"""Tokens that a run adds to the tokenizer that it starts with (`model.addTokens`)."""

from __future__ import annotations

from collections.abc import Sequence

from transformers import AddedToken, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from slipway_trainer.step.errors import BadConfig


def add(words: PreTrainedTokenizerFast, tokens: Sequence[str]) -> None:
    """Has the tokenizer find these in every text, as one token each. They are words like any other: special ones would
    be cut out of every answer that is shown, and taken for text where a turn holds them.

    Raises BadConfig that names the field for one that the tokenizer has already.
    """
    if there := [token for token in tokens if _is_there(words, token)]:
        raise BadConfig(
            f"model.addTokens: {', '.join(map(repr, there))}: the tokenizer has {'it' if len(there) == 1 else 'them'} "
            "as a token already. Leave it out: a token that is there is used, and its row trained where nobody did"
        )
    words.add_tokens([AddedToken(token, normalized=False, special=False) for token in tokens])


def ids(words: PreTrainedTokenizerBase, tokens: Sequence[str] | None) -> list[int]:
    """Returns the ids of tokens that were added, sorted."""
    found = words.convert_tokens_to_ids(list(tokens or ()))
    assert isinstance(found, list)
    return sorted(found)


def _is_there(words: PreTrainedTokenizerFast, token: str) -> bool:
    if token in words.get_vocab():
        return True
    # A vocabulary may write it otherwise: in bytes, or with the space before it.
    made = words.backend_tokenizer.encode(token, add_special_tokens=False).ids
    return len(made) == 1 and str(words.decode(made)).strip() == token
