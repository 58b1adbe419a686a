"""What a tokenizer loses of a text: characters that it makes one unknown token of, or that its normalisation drops.

A model is asked for the tokens alone, so what is lost costs it nothing, and its figures flatter it: of text that is all
unknown to its tokenizer a model of no use has less than one bit a byte.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Sequence

import numpy as np
from transformers import PreTrainedTokenizerBase

from slipway_trainer.bounds.intervals import Array

MOST = 0.02
"""Share of the characters that may be lost: a rare sign that is unknown costs a few bits too, and moves little."""


def of_texts(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], encoded: Sequence[Sequence[int]]
) -> tuple[Array, Array]:
    """Returns float64 [texts]: characters that are lost of each text, and those that it has. White space, case and
    marks upon letters do not count.

    Args:
        encoded: the tokens of each text.
    """
    unknown = tokenizer.unk_token_id
    # Some tokenizers have one token for both; an end that stands in a text is a word like others.
    unknown = None if unknown in (tokenizer.eos_token_id, tokenizer.bos_token_id) else unknown
    lost, every = np.zeros(len(texts)), np.zeros(len(texts))
    for place, (text, tokens) in enumerate(zip(texts, encoded, strict=True)):
        known = [token for token in tokens if token != unknown]
        said = str(tokenizer.decode(known, skip_special_tokens=False, clean_up_tokenization_spaces=False))
        wanted = _letters(text)
        every[place] = len(wanted)
        if said != text and (found := _letters(said)) != wanted:
            lost[place] = (Counter(wanted) - Counter(found)).total()
    return lost, every


def _letters(text: str) -> str:
    # Twice: what folding makes of a letter may have a mark of its own.
    plain = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
    return "".join(one for one in plain if not one.isspace() and unicodedata.category(one) not in ("Mn", "Cc", "Cf"))


def too_much(lost: Array, every: Array) -> str | None:
    """Returns why texts of which so much is lost tell nothing of a model; None where they do."""
    share = float(lost.sum() / every.sum()) if every.sum() else 0.0
    if share <= MOST:
        return None
    return (
        f"the model's tokenizer loses {share:.0%} of the characters, which it has no tokens for or leaves out: what is "
        f"lost costs the model nothing, and more than {MOST:.0%} is no measure of it"
    )
