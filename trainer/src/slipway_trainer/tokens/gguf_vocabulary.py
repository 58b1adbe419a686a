"""The tokenizer as a GGUF file has it: a byte-level BPE whose way to split a text llama.cpp knows by a name.

llama.cpp reads no pre-tokenizer: it has its own for each name. A name that splits otherwise gives other tokens for the
same text, and nothing tells. So a name is written only where the tokenizer says the very same splitting.
Source: `src/llama-vocab.cpp` of llama.cpp.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final

from transformers import PreTrainedTokenizerBase

from slipway_trainer.step.errors import BadConfig

_WORDS: Final = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+"
_REST: Final = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_BY_THREE: Final = rf"{_WORDS}|\p{{N}}{{1,3}}|{_REST}"
_BY_ONE: Final = rf"{_WORDS}|\p{{N}}|{_REST}"
PRE_TOKENIZERS: Final[Mapping[tuple[str, bool], str]] = {
    ("gpt-2", False): "gpt-2",
    ("digits gpt-2", False): "smollm",
    (_BY_ONE, False): "qwen2",
    (_BY_THREE, True): "llama-bpe",
    (_BY_THREE, False): "smaug-bpe",
}
"""The name of a way to split, and of whether a word that is a token is taken before any merge."""


class TokenType(IntEnum):
    NORMAL = 1
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5


@dataclass(frozen=True)
class Vocabulary:
    pre_tokenizer: str
    tokens: list[str]
    """By their ids, one a row of the embedding."""
    types: list[TokenType]
    merges: list[str]
    adds_bos: bool
    adds_eos: bool
    ids: dict[str, int]
    """Of bos, eos, eot, pad and unk, those that there are. eot ends a turn where that is not eos."""
    template: str | None


def of_tokenizer(words: PreTrainedTokenizerBase, rows: int, end_of_turn: int | None) -> Vocabulary:
    """Returns the vocabulary of a model.

    Args:
        rows: of its embedding.
        end_of_turn: the token that ends an answer.

    Raises BadConfig for a tokenizer that llama.cpp would read another way.
    """
    document = json.loads(words.backend_tokenizer.to_str())  # type: ignore[attr-defined]
    pre_tokenizer = _pre_tokenizer(document)
    added = {int(token["id"]): token for token in document["added_tokens"]}
    _refuse_stripping(added.values())
    names = {id_: token for token, id_ in document["model"]["vocab"].items()}
    names |= {id_: token["content"] for id_, token in added.items()}
    return Vocabulary(
        pre_tokenizer=pre_tokenizer,
        tokens=[names.get(id_, f"[PAD{id_}]") for id_ in range(rows)],
        types=[_type(id_, names, added) for id_ in range(rows)],
        merges=[merge if isinstance(merge, str) else " ".join(merge) for merge in document["model"]["merges"]],
        ids=_special(words, end_of_turn),
        template=_template(words),
        **_ends(words),
    )


def _pre_tokenizer(document: Mapping[str, Any]) -> str:
    model = document["model"]
    if model["type"] != "BPE" or model.get("byte_fallback") or not _is_byte_level(document):
        raise BadConfig(
            "export.gguf: the tokenizer is no byte-level BPE, and no other is written as GGUF yet. Leave export.gguf "
            "out"
        )
    splits = _splits(document["pre_tokenizer"])
    # llama.cpp never composes characters either; but the name is right, and it is how it reads these models.
    normal = (document.get("normalizer") or {"type": "NFC"})["type"] == "NFC"
    name = PRE_TOKENIZERS.get((splits, bool(model.get("ignore_merges")))) if normal and splits else None
    if name is None or model.get("dropout") or model.get("end_of_word_suffix"):
        raise BadConfig(
            "export.gguf: the tokenizer splits texts in a way that llama.cpp has no name for, and by another name it "
            f"would read other tokens ({json.dumps(document['pre_tokenizer'])[:200]}). Leave export.gguf out"
        )
    return name


def _is_byte_level(document: Mapping[str, Any]) -> bool:
    return any(part["type"] == "ByteLevel" for part in _parts(document.get("pre_tokenizer")))


def _parts(found: Mapping[str, Any] | None) -> list[Mapping[str, Any]]:
    if found is None:
        return []
    return list(found["pretokenizers"]) if found["type"] == "Sequence" else [found]


def _splits(found: Mapping[str, Any] | None) -> str | None:
    """Returns how a pre-tokenizer splits, as PRE_TOKENIZERS has it; None for one that does something else."""
    match _parts(found):
        case [{"type": "ByteLevel", "use_regex": True, "add_prefix_space": False}]:
            return "gpt-2"
        case [
            {"type": "Digits", "individual_digits": True},
            {"type": "ByteLevel", "use_regex": True, "add_prefix_space": False},
        ]:
            return "digits gpt-2"
        case [
            {"type": "Split", "pattern": {"Regex": str(pattern)}, "behavior": "Isolated", "invert": False},
            {"type": "ByteLevel", "use_regex": False, "add_prefix_space": False},
        ]:
            return pattern
        case _:
            return None


def _refuse_stripping(added: Any) -> None:
    """llama.cpp finds these tokens as they stand."""
    for token in added:
        if token["lstrip"] or token["rstrip"] or token["single_word"]:
            raise BadConfig(
                f"export.gguf: the token {token['content']!r} takes the white space around it or is found only as a "
                "word of its own, and llama.cpp does neither. Leave export.gguf out"
            )


def _type(id_: int, names: Mapping[int, str], added: Mapping[int, Mapping[str, Any]]) -> TokenType:
    if id_ not in names:
        return TokenType.UNUSED
    if id_ in added:
        return TokenType.CONTROL if added[id_]["special"] else TokenType.USER_DEFINED
    return TokenType.NORMAL


def _ends(words: PreTrainedTokenizerBase) -> dict[str, bool]:
    ids: Any = words("a", add_special_tokens=True)["input_ids"]
    return {"adds_bos": ids[0] == words.bos_token_id, "adds_eos": ids[-1] == words.eos_token_id}


def _special(words: PreTrainedTokenizerBase, end_of_turn: int | None) -> dict[str, int]:
    eos = words.eos_token_id if words.eos_token_id is not None else end_of_turn
    known = {
        "bos": words.bos_token_id,
        "eos": eos,
        "eot": end_of_turn if end_of_turn != eos else None,
        "pad": words.pad_token_id,
        "unk": words.unk_token_id,
    }
    return {name: id_ for name, id_ in known.items() if isinstance(id_, int)}


def _template(words: PreTrainedTokenizerBase) -> str | None:
    """The marks of the answers are for training alone, and not every reader of jinja knows them: a condition that holds
    renders the same."""
    template = words.chat_template
    if not isinstance(template, str):
        return None
    opened = re.sub(r"\{%(-?)\s*generation\s*(-?)%\}", r"{%\1 if true \2%}", template)
    return re.sub(r"\{%(-?)\s*endgeneration\s*(-?)%\}", r"{%\1 endif \2%}", opened)
