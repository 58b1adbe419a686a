"""What is measured of a model, and the gates that it has to pass."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from slipway_core.resources.api import Api, Rule, ShortText
from slipway_core.resources.data import Columns, ConversationForm, DataSource
from slipway_core.resources.gate_metrics import ANSWER_METRICS, RECALL_METRICS, TEXT_METRICS, MetricName
from slipway_core.resources.source import Source


class PromptSource(Source):
    """Rows are {"prompt": …} or a conversation, with {"answer": …} when the answer is to be compared. Of a conversation
    that ends with the assistant's turn, that is the answer."""

    format: Literal["Auto", "Prompt", ConversationForm] = "Auto"
    """What its rows are; Auto finds it out from the first row of each file."""
    columns: Columns | None = None
    """Columns of other names."""
    recall: bool = False
    """These prompts ask for something that the training data holds, so they may overlap with it."""
    credentials: ShortText | None = None
    """Secret for a private source, with the keys that those of a model have. Locally, the environment is used."""


class Gate(Api):
    """One condition that the model has to meet."""

    rules: ClassVar = (
        Rule(
            "[has(self.max), has(self.min), has(self.maxRegression)].filter(x, x).size() == 1",
            "set exactly one of max, min and maxRegression",
            lambda self: sum(x is not None for x in (self.max, self.min, self.max_regression)) == 1,
        ),
    )

    metric: MetricName
    """What is measured: text metrics on data, recall and generated text on prompts."""
    max: float | None = None
    """The metric must not be above it."""
    min: float | None = None
    """The metric must not be below it."""
    max_regression: float | None = Field(default=None, ge=0)
    """How much worse than the live version the model may be, in the metric's own unit and direction."""
    min_tokens: int = Field(default=1, ge=1)
    """Scored tokens without which the gate is inconclusive."""
    confidence: float | None = Field(default=None, ge=0.5, lt=1)
    """How sure a verdict must be, on either side; 0.95 when left out. With `max` a gate passes when the figure's upper
    bound is not above it, fails when the lower one is, and is inconclusive between. 0.5 takes the figure as it is."""


def _named(metrics: tuple[str, ...]) -> str:
    """Returns, in CEL, whether a gate is on one of these metrics."""
    return f"has(self.gates) && self.gates.exists(g, g.metric in {list(metrics)})"


def _names(evaluation: Evaluation, metrics: tuple[str, ...]) -> bool:
    return any(gate.metric in metrics for gate in evaluation.gates)


class Evaluation(Api):
    """What the exported model is measured on, and the gates before traffic."""

    rules: ClassVar = (
        Rule(
            f"!({_named(TEXT_METRICS)}) || (has(self.data) && self.data.size() > 0)",
            "a gate on perplexity or bits_per_byte needs evaluation.data: nothing else computes it",
            lambda self: not _names(self, TEXT_METRICS) or bool(self.data),
            "gates",
        ),
        Rule(
            f"!({_named(RECALL_METRICS)}) || (has(self.prompts) && self.prompts.exists(p, has(p.recall) && p.recall))",
            "a gate on recall_count or recall_rate needs evaluation.prompts with recall: true",
            lambda self: not _names(self, RECALL_METRICS) or any(p.recall for p in self.prompts),
            "gates",
        ),
        Rule(
            f"!({_named(ANSWER_METRICS)}) || (has(self.prompts) && self.prompts.size() > 0)",
            "a gate on generated text needs evaluation.prompts: nothing else computes it",
            lambda self: not _names(self, ANSWER_METRICS) or bool(self.prompts),
            "gates",
        ),
    )

    data: Annotated[list[DataSource], Field(max_length=64)] = Field(default_factory=list[DataSource])
    """Held-out text, {"text": …} rows, scored raw. What of it stands in the training data is refused, or dropped."""
    on_overlap: Literal["Refuse", "Drop"] = "Refuse"
    """What becomes of held-out documents that stand in the training data. Drop leaves them out, and says how many: a
    gate that is left with fewer than its minTokens is inconclusive."""
    prompts: Annotated[list[PromptSource], Field(max_length=64)] = Field(default_factory=list[PromptSource])
    """Prompts that the model answers, greedily."""
    max_new_tokens: int = Field(default=256, ge=1, le=8192)
    """Longest answer to a prompt, in tokens."""
    engine: Literal["Auto", "vLLM", "Transformers"] = "Auto"
    """What computes with the model: vLLM, which serves it, or transformers, on a CPU in float32. Auto takes vLLM for
    quantised weights and for 60 prompts and more, where it is installed. The report says which, and why."""
    gates: Annotated[list[Gate], Field(max_length=32)] = Field(default_factory=list[Gate])
    """All of them must pass."""
    on_inconclusive: Literal["Hold", "Reject"] = "Hold"
    """What becomes of a run whose gates could not be judged. Held ends by the annotation slipway.dev/reevaluate."""
