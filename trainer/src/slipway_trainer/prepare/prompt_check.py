"""Prompts of the evaluation, put to the chat template before anything is trained: evaluate would find out too late."""

from __future__ import annotations

import json

from transformers import PreTrainedTokenizerFast

from slipway_trainer.data.held_out import HeldOut
from slipway_trainer.model.context_length import ContextLength
from slipway_trainer.step.errors import BadData
from slipway_trainer.tokens import tokenizer
from slipway_trainer.tokens.chat_rendering import Unrenderable
from slipway_trainer.tokens.prompt_tokens import PromptTokens


def check(held: HeldOut, words: PreTrainedTokenizerFast, longest: ContextLength | None, *, virtual: int = 0) -> None:
    """Raises BadData that names a prompt which the template refuses or cuts, or which leaves no room for an answer.

    Args:
        longest: how many tokens the model takes; None when nothing says it.
        virtual: how many of them stand in front of every text.
    """
    renderer, encoder = tokenizer.renderer(words), PromptTokens(words)
    for prompt in held.prompts:
        tools = json.loads(prompt.row.tools) if prompt.row.tools else None
        try:
            renderer.prompt(prompt.row.messages, prompt.row.tools)
            tokens = len(encoder.ids(prompt.row.messages, tools))
        except Unrenderable as error:
            raise BadData(f"{prompt.place}: the model's chat template {error}.") from None
        if longest is not None and tokens + virtual >= longest.tokens:
            before = f", {virtual} of them virtual ones before the prompt" if virtual else ""
            raise BadData(
                f"{prompt.place}: the prompt takes {tokens} tokens and the model takes {longest.tokens} "
                f"({longest.where}{before}), so nothing is left for an answer. Shorten it"
            )
