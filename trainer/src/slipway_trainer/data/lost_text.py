"""What the tokens of a text do not say of it: characters that a tokenizer makes one unknown token of, or that its
normalisation or a chat template drops.

A model is asked for the tokens alone, so what is lost costs it nothing, and its figures flatter it: of text that is all
unknown to its tokenizer a model of no use has less than one bit a byte.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
from transformers import PreTrainedTokenizerBase

MOST = 0.02
"""Share of the characters that may be lost: a rare sign that is unknown costs a few bits too, and moves little."""


def of_texts(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], encoded: Sequence[Sequence[int]] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Returns float64 [texts]: characters that are lost of each text, and those that it has.

    Args:
        encoded: the tokens of each text, where they are known already.
    """
    if encoded is None:
        encoded = cast(Any, tokenizer(list(texts), add_special_tokens=False, verbose=False))["input_ids"]
    unknown = tokenizer.unk_token_id
    # Some tokenizers have one token for both; an end that stands in a text is a word like others.
    unknown = None if unknown in (tokenizer.eos_token_id, tokenizer.bos_token_id) else unknown
    lost, every = np.zeros(len(texts)), np.zeros(len(texts))
    for place, (text, tokens) in enumerate(zip(texts, encoded or [], strict=True)):
        known = [token for token in tokens if token != unknown]
        said = str(tokenizer.decode(known, skip_special_tokens=False, clean_up_tokenization_spaces=False))
        lost[place], every[place] = of_text(text, said)
    return lost, every


def of_text(text: str, said: str) -> tuple[int, int]:
    """Returns how many characters of a text stand nowhere in what its tokens say, and how many it has. White space,
    case and marks upon letters do not count."""
    return _of(text, said, lambda one: not one.isspace() and unicodedata.category(one) not in ("Mn", "Cc", "Cf"))


def of_answer(text: str, said: str) -> tuple[int, int]:
    """The same of letters and digits alone: a chat template writes calls with signs of its own."""
    return _of(text, said, str.isalnum)


def _of(text: str, said: str, counts: Callable[[str], bool]) -> tuple[int, int]:
    wanted = _letters(text, counts)
    found = wanted if text in said else _letters(said, counts)
    return (0 if found == wanted else (Counter(wanted) - Counter(found)).total()), len(wanted)


def _letters(text: str, counts: Callable[[str], bool]) -> str:
    # Twice: what folding makes of a letter may have a mark of its own.
    plain = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
    return "".join(filter(counts, plain))


def too_much(lost: float, every: float) -> str | None:
    """Returns why texts of which so much is lost tell nothing of a model; None where they do."""
    share = lost / every if every else 0.0
    if share <= MOST:
        return None
    return (
        f"{share:.0%} of their characters are lost, which the model's tokenizer has no tokens for, or which it or the "
        f"chat template leaves out: what is lost costs a model nothing, and of more than {MOST:.0%} no figure is made"
    )
