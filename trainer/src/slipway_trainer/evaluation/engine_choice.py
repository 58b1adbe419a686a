"""Which engine judges: the one that will serve where that matters and can be had, and the report says why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from slipway_trainer.step.errors import BadConfig

MANY_PROMPTS: Final = 60
"""Prompts from which starting vLLM is made up for by how fast it answers: measured at 50 to 60 on a CPU, with 64 new
tokens each."""


@dataclass(frozen=True)
class Choice:
    engine: Literal["vLLM", "Transformers"]
    why: str
    asked: bool = False
    """Whether the run asks for it: then there is no other."""

    def without_vllm(self, trouble: str) -> Choice:
        """Returns what is taken when vLLM does not start. Raises BadConfig when the run asks for it."""
        if self.asked:
            raise BadConfig(f"evaluation.engine: vLLM: {trouble}. Mend that, or use Auto or Transformers")
        return Choice("Transformers", f"{self.why}, but {trouble}")


def choose(
    wanted: Literal["Auto", "vLLM", "Transformers"], *, quantized: bool, prompts: int, trouble: str | None
) -> Choice:
    """
    Args:
        wanted: evaluation.engine.
        quantized: whether the candidate, or what it is compared with, has quantised weights.
        prompts: how many are answered.
        trouble: why vLLM cannot judge the candidate here; None when nothing is known.

    Raises BadConfig when the run asks for vLLM and it cannot.
    """
    if wanted == "Transformers":
        return Choice("Transformers", "evaluation.engine asks for it", asked=True)
    if wanted == "vLLM":
        asked = Choice("vLLM", "evaluation.engine asks for it", asked=True)
        return asked if trouble is None else asked.without_vllm(trouble)
    if quantized:
        auto = Choice("vLLM", "the weights are quantised, and it computes with them as the server does")
    elif prompts >= MANY_PROMPTS:
        auto = Choice("vLLM", f"it answers {prompts} prompts sooner, its start included")
    else:
        return Choice("Transformers", f"for {prompts} prompts vLLM does not pay its start")
    return auto if trouble is None else auto.without_vllm(trouble)
