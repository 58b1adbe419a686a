"""What computes with a model that is judged: it scores text, and it answers prompts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from slipway_trainer.data.scored_conversations import Spoken
from slipway_trainer.evaluation.conversations import ChatScore
from slipway_trainer.evaluation.generation import Answer, Prompt
from slipway_trainer.evaluation.perplexity import Score
from slipway_trainer.evaluation.task_model import TaskModel

Advance = Callable[[int, int], None]
"""Told what is done, and what there is in all."""


class Engine(Protocol):
    dtype: str
    """In which it computes."""
    repetition_penalty: float
    told: Mapping[str, str]
    """What the report says of it."""

    def score(self, documents: Sequence[str], *, window: int | None, advance: Advance | None = None) -> Score:
        """Scores documents.

        Args:
            window: longest input in tokens, at most what the engine takes; that when None.

        Raises BadArtifact when the model has no row for a token of the documents.
        """
        ...

    def converse(self, spoken: Sequence[Spoken], *, window: int | None, advance: Advance | None = None) -> ChatScore:
        """Scores the answers of conversations, behind the artifact's chat template.

        Args:
            window: longest input in tokens, at most what the engine takes; that when None.

        Raises ValueError when there is no template, BadData when it refuses a conversation, and BadArtifact as `score`.
        """
        ...

    def answer(self, prompts: Sequence[Prompt], *, max_new_tokens: int, advance: Advance | None = None) -> list[Answer]:
        """Answers prompts, in their order. Raises ValueError when prompts cannot be put to the model."""
        ...

    def for_tasks(self, *, advance: Advance | None = None) -> TaskModel:
        """Returns the model as tasks of lm-evaluation-harness ask it: raw texts, without a chat template."""
        ...
