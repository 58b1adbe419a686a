"""From a text with stand-ins to tokens: those as what they stand for, written out, and all else as the tokenizer does.

Everything is encoded at its place in the whole text, since what a tokenizer makes of a text may depend on what stands
before it. In a copy of the tokenizer the control tokens have other names, which the template's own are given; what
keeps the old name is text there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol, cast

from slipway_core.protocol.control_tokens import INTERNAL, STAND_IN, ControlTokens, NotQuotable

_ANCHOR: Final = "\ufdd2{}\ufdd3"
_HARMLESS: Final = "x"


class Tokenizer(Protocol):
    """What of `tokenizers.Tokenizer` is asked for; it neither cuts nor pads."""

    def encode(self, sequence: str, *, add_special_tokens: bool) -> Any: ...

    def token_to_id(self, token: str) -> int | None: ...

    def to_str(self) -> str: ...


class QuotedEncoder:
    """Encodes the texts of one tokenizer and its chat template."""

    def __init__(self, control: ControlTokens, tokenizer: Tokenizer, load: Callable[[str], Tokenizer]) -> None:
        """Args:
        load: makes a tokenizer of its JSON text.
        """
        self._control = control
        self._tokenizer = tokenizer
        document = cast(dict[str, Any], json.loads(tokenizer.to_str()))
        unknown = _unknown(document["model"])
        self._writable = {unknown} - {*control.turns}
        copy: Any = load(json.dumps(_with_anchors(document, control)))
        copy.encode_special_tokens = True  # As text, that is.
        self._copy: Tokenizer = copy
        self._anchors: dict[str, str] = {}
        self._genuine: dict[int, int] = {}
        for number, token in enumerate(control.special):
            anchor = _ANCHOR.format(number)
            renamed, genuine = self._copy.token_to_id(anchor), tokenizer.token_to_id(token)
            if renamed is not None and genuine is not None:
                self._anchors[token] = anchor
                self._genuine[renamed] = genuine

    def ids(self, text: str, *, add_special_tokens: bool = False) -> list[int]:
        """Returns the ids of a text with stand-ins.

        Raises NotQuotable when a control token cannot be written as text with this tokenizer, or when the copy does not
        encode what stands around it as the tokenizer itself does.
        """
        self._check_around(text)
        anchored = self._anchored(text)
        found = self._copy.encode(anchored, add_special_tokens=False).ids
        self._check_written(text, found)
        if add_special_tokens:
            found = self._copy.encode(anchored, add_special_tokens=True).ids
        return self._renamed(found)

    def _anchored(self, text: str) -> str:
        def put(found: re.Match[str]) -> str:
            if found[1] is not None:
                return self._control.special[int(found[1])]
            return self._anchors.get(found[0], found[0])

        return self._control.genuine.sub(put, text)

    def _renamed(self, ids: list[int]) -> list[int]:
        return [self._genuine.get(id_, id_) for id_ in ids]

    def _check_around(self, text: str) -> None:
        harmless = STAND_IN.sub(_HARMLESS, text)
        if INTERNAL.search(harmless):
            raise NotQuotable("the text is cut within a control token that stands in a turn")
        copied = self._copy.encode(self._anchored(harmless), add_special_tokens=False).ids
        if self._renamed(copied) != self._tokenizer.encode(harmless, add_special_tokens=False).ids:
            raise NotQuotable(
                "this tokenizer changes the text around its control tokens, so one that stands in a turn cannot be "
                "written as text"
            )

    def _check_written(self, text: str, ids: list[int]) -> None:
        for number in sorted({int(found[1]) for found in STAND_IN.finditer(text)}):
            token = self._control.special[number]
            if token not in self._writable and self._tokenizer.token_to_id(token) in ids:
                raise NotQuotable(f"this tokenizer can write {token!r} only as its control token and not as text")


def _with_anchors(document: dict[str, Any], control: ControlTokens) -> dict[str, Any]:
    """Returns the JSON of a tokenizer with a second name for each control token, by which alone it is found."""
    added = cast(list[dict[str, Any]], document.get("added_tokens") or [])
    index = {token: number for number, token in enumerate(control.special)}
    free = 1 + max([-1, *(token["id"] for token in added), *_vocabulary_ids(document["model"])])
    named = [token | {"special": True} if token["content"] in index else token for token in added]
    anchors = [
        token
        | {
            "id": free + place,
            "content": _ANCHOR.format(index[token["content"]]),
            "normalized": False,
            "special": False,
        }
        for place, token in enumerate(token for token in added if token["content"] in index)
    ]
    return document | {"added_tokens": [*named, *anchors], "truncation": None, "padding": None}


def _vocabulary_ids(model: dict[str, Any]) -> Iterable[int]:
    vocabulary: Any = model.get("vocab") or {}
    if isinstance(vocabulary, dict):
        return cast(dict[str, int], vocabulary).values()
    return (len(vocabulary) - 1,)


def _unknown(model: dict[str, Any]) -> str | None:
    """Returns the token that stands for what a tokenizer cannot write: it is made of texts, and controls nothing."""
    if (place := model.get("unk_id")) is not None:
        return cast(str, model["vocab"][place][0])
    return model.get("unk_token")
