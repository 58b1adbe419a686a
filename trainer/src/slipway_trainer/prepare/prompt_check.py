"""Prompts of the evaluation are put to the template before anything is trained: what cannot be asked is known then."""

from __future__ import annotations

from transformers import PreTrainedTokenizerFast

from slipway_trainer.data.held_out import HeldOut
from slipway_trainer.step.errors import BadData
from slipway_trainer.tokens import tokenizer
from slipway_trainer.tokens.chat_rendering import Unrenderable


def check(held: HeldOut, words: PreTrainedTokenizerFast) -> None:
    """Raises BadData that names the prompt which the template refuses, or of which it leaves a turn out."""
    renderer = tokenizer.renderer(words)
    for prompt in held.prompts:
        try:
            renderer.prompt([{"role": turn.role, "content": turn.content} for turn in prompt.row.turns])
        except Unrenderable as error:
            raise BadData(f"{prompt.place}: the model's chat template {error}.") from None
