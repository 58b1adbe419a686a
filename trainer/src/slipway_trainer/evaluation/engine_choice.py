"""Which engine judges: the one that will serve where that matters and can be had, and the report says why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from slipway_trainer.step.errors import BadConfig

MANY_PROMPTS: Final = 60
"""Prompts from which vLLM is taken on a GPU: not measured there."""
MUCH_WORK: Final = 5 * 10**11
"""Weights times tokens that may be written, from which on a CPU starting vLLM is made up for by how fast it writes.
With 1.7 million weights it pays from 4,076 prompts of at most 96 tokens on, which are 7e11 (`bench.judging_engines`);
with 135 million, both in bfloat16, it did from 50 to 60 prompts of 64 tokens on, which are 4e11 to 5e11."""


@dataclass(frozen=True)
class Work:
    """What answering the prompts of an evaluation is."""

    prompts: int
    tokens: int
    """That all answers have together at most."""
    weights: int
    """About how many the model has."""
    on_cpu: bool = True

    @property
    def is_much(self) -> bool:
        """Whether vLLM, its start included, has done it sooner than transformers."""
        return self.weights * self.tokens >= MUCH_WORK if self.on_cpu else self.prompts >= MANY_PROMPTS


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
    wanted: Literal["Auto", "vLLM", "Transformers"], *, quantized: bool, work: Work, trouble: str | None
) -> Choice:
    """
    Args:
        wanted: evaluation.engine.
        quantized: whether the candidate, or what it is compared with, has quantised weights.
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
    elif work.is_much:
        auto = Choice("vLLM", f"it answers {work.prompts} prompts sooner, its start included")
    elif not work.prompts:
        return Choice("Transformers", "there are no prompts to answer, and scoring does not pay the start of vLLM")
    else:
        size = f" of a model of {work.weights / 1e6:.1f} million weights" if work.on_cpu else ""
        return Choice("Transformers", f"for {work.prompts} prompts{size} vLLM does not pay its start")
    return auto if trouble is None else auto.without_vllm(trouble)
