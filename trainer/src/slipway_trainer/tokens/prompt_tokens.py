"""Prompts as the server puts them to the model: the conversation, up to where the answer begins."""

from __future__ import annotations

import json
from functools import cached_property
from typing import Any

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from slipway_core.protocol.control_tokens import NotQuotable
from slipway_core.protocol.quoted_encoder import QuotedEncoder
from slipway_trainer.tokens import tokenizer
from slipway_trainer.tokens.chat_rendering import Messages, Unrenderable


class PromptTokens:
    """Prompts of one tokenizer. Control tokens that a turn has written out are text in them."""

    def __init__(self, words: PreTrainedTokenizerFast) -> None:
        self._words = words
        self._renderer = tokenizer.renderer(words)

    def ids(self, messages: Messages, tools: list[dict[str, Any]] | None = None) -> list[int]:
        """Returns the ids of a prompt. Raises Unrenderable when the template or the tokenizer refuses it."""
        quoted = self._renderer.quoted(messages, json.dumps(tools) if tools else None)
        if quoted is None:
            text = self.text(messages, tools)
            # The template writes every special token itself, as it does in the server.
            return self._words(text, add_special_tokens=False, verbose=False)["input_ids"]  # pyright: ignore
        renderer, found = quoted
        text = renderer.text(found.messages, found.others, add_generation_prompt=True)
        try:
            return self._quoted.ids(text)
        except NotQuotable as error:
            raise Unrenderable(f"is not enough for {found.first}: {error}") from None

    def text(self, messages: Messages, tools: list[dict[str, Any]] | None = None) -> str:
        """Returns a prompt as the template renders it. Raises Unrenderable."""
        return self._renderer.text(messages, json.dumps(tools) if tools else None, add_generation_prompt=True)

    @cached_property
    def _quoted(self) -> QuotedEncoder:
        own = Tokenizer.from_str(self._words.backend_tokenizer.to_str())
        own.no_truncation()
        own.no_padding()
        return QuotedEncoder(self._renderer.control, own, Tokenizer.from_str)
