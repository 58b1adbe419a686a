"""How a model is talked to, kept with its tokenizer: where that goes, its arguments and its markers go too."""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedTokenizerBase

from slipway_core.protocol import chat_format
from slipway_core.protocol.artifact import ArtifactError
from slipway_core.protocol.chat_format import ChatFormat
from slipway_trainer.step.errors import BadModel


def of(tokenizer: PreTrainedTokenizerBase) -> ChatFormat:
    """Returns what the tokenizer's own file says. Raises BadModel where it says something that is none."""
    settings: Any = tokenizer.init_kwargs
    try:
        return chat_format.of_config(settings)
    except ArtifactError as error:
        raise BadModel(f"the tokenizer's {error}") from None


def give(tokenizer: PreTrainedTokenizerBase, found: ChatFormat) -> None:
    """Has the tokenizer keep a format. One that says nothing leaves the file as it was without it."""
    settings: Any = tokenizer.init_kwargs
    if document := found.to_document():
        settings[chat_format.KEY] = document
    else:
        settings.pop(chat_format.KEY, None)
