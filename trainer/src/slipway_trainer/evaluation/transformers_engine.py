"""transformers, in this process: on a CPU in float32."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from slipway_trainer.data.scored_conversations import Spoken
from slipway_trainer.evaluation import continuations, conversations, generation, perplexity
from slipway_trainer.evaluation.conversations import ChatScore
from slipway_trainer.evaluation.engine import Advance
from slipway_trainer.evaluation.generation import Answer, Prompt
from slipway_trainer.evaluation.perplexity import Score
from slipway_trainer.evaluation.task_model import TaskModel
from slipway_trainer.model.exported_model import ExportedModel


class TransformersEngine:
    def __init__(self, exported: ExportedModel, why: str = "") -> None:
        """
        Args:
            why: it was taken.
        """
        self.exported = exported
        self.dtype = str(exported.model.dtype).removeprefix("torch.")
        self.repetition_penalty = exported.repetition_penalty
        self.told: Mapping[str, str] = {"engine": "Transformers", "engine_why": why}

    def score(self, documents: Sequence[str], *, window: int | None, advance: Advance | None = None) -> Score:
        model, words = self.exported.model, self.exported.tokenizer
        longest = perplexity.longest_input(model.config, words, virtual=self.exported.virtual_tokens)
        used = longest if window is None else min(window, longest)
        return perplexity.score(model, words, documents, window=used, advance=advance)

    def converse(self, spoken: Sequence[Spoken], *, window: int | None, advance: Advance | None = None) -> ChatScore:
        return conversations.score(self.exported, spoken, window=window, advance=advance)

    def answer(self, prompts: Sequence[Prompt], *, max_new_tokens: int, advance: Advance | None = None) -> list[Answer]:
        return generation.answer(self.exported, prompts, max_new_tokens=max_new_tokens, advance=advance)

    def for_tasks(self, *, advance: Advance | None = None) -> TaskModel:
        own = self.exported
        longest = perplexity.positions(own.model.config, own.tokenizer) - own.virtual_tokens
        return TaskModel(
            continuations.computed(own.model),
            generation.computed(own),
            own.tokenizer,
            own.end_tokens,
            longest=longest,
            window=longest,
            advance=advance,
        )
