"""What is measured of a model, and the gates that it has to pass."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from slipway_core.resources.api import Api, Rule, ShortText
from slipway_core.resources.data import Columns, ConversationForm, DataSource
from slipway_core.resources.gate_metrics import (
    ANSWER_METRICS,
    JUDGE_METRICS,
    METRICS,
    RECALL_METRICS,
    REFERENCE_METRICS,
    SCORED_METRICS,
    WIN_RATE,
    MetricName,
    titled,
)
from slipway_core.resources.judge import Compared, Judge
from slipway_core.resources.source import Source
from slipway_core.resources.task import HarnessTask, TaskName

SCOPE_PATTERN = r"^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$"
"""Names of sources and slices: letters, digits, dots, dashes and underscores."""
ScopeName = Annotated[str, Field(pattern=SCOPE_PATTERN, max_length=63)]
DEFAULT_CONFIDENCE = 0.95
"""Of a gate that says none. A plan fills it in; one that has none is of a release whose gates took figures as they are.
"""
_UNSCORED = tuple(name for name in METRICS if name not in SCORED_METRICS)
POINT = 0.5
"""The confidence with which a figure is taken as it is."""


class HeldOutSource(DataSource):
    """Rows are {"text": …}, or conversations in any of the forms that a Chat stage learns from. A row may say the
    `slice` that it belongs to, and the `cluster` of rows that are alike."""

    name: ScopeName | None = None
    """By which a gate, the report and the status name it; no other source of the evaluation has it."""


class PromptSource(Source):
    """Rows are {"prompt": …} or a conversation, with {"answer": …} or {"answers": […]} when the answer is to be
    compared. Of a conversation that ends with the assistant's turn, that is the answer. A row may also say what an
    answer has to be like (`pattern`, `schema`, `tolerance`, `language`, `minLength`, `maxLength`), the `slice` that it
    belongs to, and the `cluster` of rows that are alike."""

    name: ScopeName | None = None
    """By which a gate, the report and the status name it; no other source of the evaluation has it."""
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
        Rule(
            "!has(self.against) || has(self.maxRegression)",
            "against is of maxRegression: max and min compare with no other model",
            lambda self: self.against is None or self.max_regression is not None,
            "against",
        ),
        Rule(
            f"has(self.task) || self.metric in {list(METRICS)}",
            f"no such metric: the metrics are {', '.join(METRICS)}",
            lambda self: self.task is not None or self.metric in METRICS,
            "metric",
            lambda self: _meant(self.metric),
        ),
        Rule(
            f"self.metric != '{WIN_RATE}' || has(self.min)",
            f"{WIN_RATE} takes min: it compares two answers already. min: 0.5 asks for answers as good as the others",
            lambda self: self.metric != WIN_RATE or self.min is not None,
            "metric",
        ),
        Rule(
            f"!(self.metric in {list(JUDGE_METRICS)}) || (!has(self.max) || self.max <= 1.0) && "
            "(!has(self.min) || self.min >= 0.0 && self.min <= 1.0) && "
            "(!has(self.maxRegression) || self.maxRegression <= 1.0)",
            f"{' and '.join(JUDGE_METRICS)} are from 0 to 1, whatever the judge's scale: min: 0.7 of judge_score is "
            "seven tenths of the way from the worst mark to the best",
            lambda self: (
                self.metric not in JUDGE_METRICS
                or all(0 <= one <= 1 for one in (self.max, self.min, self.max_regression) if one is not None)
            ),
            "metric",
            lambda self: f"{next(one for one in (self.max, self.min, self.max_regression) if one is not None):g}",
        ),
        Rule(
            "!has(self.task) || !(has(self.source) || has(self.slice))",
            "task is of a gate on a task alone, which has neither sources nor slices: leave source and slice out",
            lambda self: self.task is None or (self.source is None and self.slice is None),
            "task",
        ),
        Rule(
            f"!has(self.minTokens) || self.minTokens == 1 || !has(self.task) && !(self.metric in {list(_UNSCORED)})",
            f"minTokens counts the tokens that {', '.join(SCORED_METRICS)} score, and this gate's metric scores none: "
            "leave it out",
            lambda self: self.min_tokens == 1 or (self.task is None and self.metric not in _UNSCORED),
            "minTokens",
            lambda self: titled(self.metric, self.source, self.slice, self.task),
            of_new=True,
        ),
    )

    metric: MetricName
    """What is measured: of text and conversations on data, of recall and generated text on prompts, and of a task what
    that has: acc, acc_norm, exact_match, ..., where it has several filters with that: exact_match,strict-match."""
    task: TaskName | None = None
    """The name of the task of evaluation.tasks that the metric is of."""
    source: ScopeName | None = None
    """The name of the source whose rows alone count; all of them that the metric is computed from when left out."""
    slice: ScopeName | None = None
    """The slice whose rows alone count, as rows say in their field `slice`."""
    max: float | None = None
    """The metric must not be above it."""
    min: float | None = None
    """The metric must not be below it."""
    max_regression: float | None = Field(default=None, ge=0)
    """How much worse than the live version the model may be, in the metric's own unit and direction."""
    against: Literal["Live", "Base"] | None = None
    """What maxRegression compares with: the live version when left out, or the model that the first stage starts from,
    measured on the same data."""
    min_tokens: int = Field(default=1, ge=1)
    """Scored tokens, of the rows that count, without which the gate is inconclusive; of the metrics of text and
    conversations alone."""
    confidence: float | None = Field(default=None, ge=0.5, lt=1)
    """How sure a verdict must be, on either side; 0.95 when left out. With `max` a gate passes when the figure's upper
    bound is not above it, fails when the lower one is, and is inconclusive between. 0.5 takes the figure as it is."""

    @property
    def against_base(self) -> bool:
        return self.against == "Base"

    @property
    def against_live(self) -> bool:
        return self.max_regression is not None and not self.against_base


_ONE_NAME = (
    "(!has(self.data) || self.data.all(d, !has(d.name) || "
    "(self.data.exists_one(e, has(e.name) && e.name == d.name) && "
    "(!has(self.prompts) || !self.prompts.exists(e, has(e.name) && e.name == d.name))))) && "
    "(!has(self.prompts) || self.prompts.all(d, !has(d.name) || "
    "self.prompts.exists_one(e, has(e.name) && e.name == d.name)))"
)


def _meant(metric: str) -> str:
    close = difflib.get_close_matches(metric, METRICS, n=1)
    return f"it is {metric}" + (f"; did you mean {close[0]}?" if close else "")


def _task_named(evaluation: Evaluation) -> str:
    names = [one.name for one in evaluation.tasks]
    missing = next((one.task for one in evaluation.gates if one.task not in (None, *names)), None)
    return f"{missing} is not among {', '.join(names) or 'them: there are none'}"


def _need(
    metrics: tuple[str, ...], sources: str, such: str, has: Callable[[PromptSource], bool] | None, message: str
) -> Rule:
    """Returns the rule that something computes what the gates on some metrics ask for, under the source they name.

    Args:
        sources: `data` or `prompts`.
        such: in CEL, what a source `d` must be beside; empty for nothing.
        has: the same of a source of prompts.
    """
    beside = f" && {such}" if such else ""
    cel = (
        f"!has(self.gates) || self.gates.all(g, has(g.task) || !(g.metric in {list(metrics)}) || "
        f"(has(self.{sources}) && self.{sources}.exists(d, "
        f"(!has(g.source) || (has(d.name) && d.name == g.source)){beside})))"
    )

    def computed(gate: Gate, evaluation: Evaluation) -> bool:
        if sources == "data":
            return any(gate.source in (None, one.name) for one in evaluation.data)
        return any(gate.source in (None, one.name) and (has is None or has(one)) for one in evaluation.prompts)

    def broken(evaluation: Evaluation) -> Iterator[Gate]:
        named = (gate for gate in evaluation.gates if gate.task is None and gate.metric in metrics)
        return (gate for gate in named if not computed(gate, evaluation))

    def shown(evaluation: Evaluation) -> str:
        gate = next(broken(evaluation))
        return f"the gate on {gate.metric}" + (f" names the source {gate.source}" if gate.source else " has none")

    return Rule(cel, message, lambda self: not any(broken(self)), "gates", shown)


class Evaluation(Api):
    """What the exported model is measured on, and the gates before traffic."""

    rules: ClassVar = (
        _need(
            SCORED_METRICS,
            "data",
            "",
            None,
            "a gate on perplexity or bits_per_byte, of text or chat, needs evaluation.data, with the name that its "
            "source says: nothing else computes it",
        ),
        _need(
            RECALL_METRICS,
            "prompts",
            "has(d.recall) && d.recall",
            lambda one: one.recall,
            "a gate on recall_count or recall_rate needs evaluation.prompts with recall: true, and the name that its "
            "source says",
        ),
        _need(
            ANSWER_METRICS,
            "prompts",
            "",
            None,
            "a gate on generated text needs evaluation.prompts, with the name that its source says: nothing else "
            "computes it",
        ),
        _need(
            (*REFERENCE_METRICS, *JUDGE_METRICS),
            "prompts",
            "!(has(d.recall) && d.recall)",
            lambda one: not one.recall,
            "a gate on what answers are held against, or on what a judge says of them, needs evaluation.prompts "
            "without recall, with the name that its source says: nothing else computes it",
        ),
        Rule(
            f"(has(self.gates) && self.gates.exists(g, g.metric in {list(JUDGE_METRICS)})) == has(self.judge)",
            f"a gate on {' or '.join(JUDGE_METRICS)} needs evaluation.judge, and a judge needs such a gate: nothing "
            "else asks it",
            lambda self: any(one.metric in JUDGE_METRICS for one in self.gates) == (self.judge is not None),
            "gates",
        ),
        Rule(
            "!has(self.judge) || has(self.judge.compare) == "
            f"(has(self.gates) && self.gates.exists(g, g.metric == '{WIN_RATE}'))",
            f"judge.compare says what {WIN_RATE} compares with, Live, Base or Reference: set it with a gate on "
            f"{WIN_RATE}, and leave it out without one",
            lambda self: (
                self.judge is None
                or (self.judge.compare is not None) == any(one.metric == WIN_RATE for one in self.gates)
            ),
            "judge",
        ),
        Rule(
            _ONE_NAME,
            "a source has the name of another one: names tell the sources of an evaluation apart",
            lambda self: len(set(self.names)) == len(self.names),
            "data",
            lambda self: f"the names are {', '.join(self.names)}",
        ),
        Rule(
            "!has(self.tasks) || self.tasks.all(t, self.tasks.exists_one(u, u.name == t.name))",
            "a task is named twice: gates tell tasks apart by their names",
            lambda self: len({one.name for one in self.tasks}) == len(self.tasks),
            "tasks",
            lambda self: f"the names are {', '.join(one.name for one in self.tasks)}",
        ),
        Rule(
            "!has(self.gates) || self.gates.all(g, !has(g.task) || "
            "(has(self.tasks) && self.tasks.exists(t, t.name == g.task)))",
            "a gate with task names one of evaluation.tasks",
            lambda self: {g.task for g in self.gates if g.task is not None} <= {one.name for one in self.tasks},
            "gates",
            _task_named,
        ),
    )

    data: Annotated[list[HeldOutSource], Field(max_length=64)] = Field(default_factory=list[HeldOutSource])
    """Held-out text, {"text": …} rows, scored raw, and held-out conversations, whose answers are scored behind the
    model's chat template. What of it stands in the training data is refused, or dropped."""
    on_overlap: Literal["Refuse", "Drop"] = "Refuse"
    """What becomes of held-out documents and conversations that stand in the training data. Drop leaves them out, and
    says how many: a gate that is left with fewer than its minTokens is inconclusive."""
    prompts: Annotated[list[PromptSource], Field(max_length=64)] = Field(default_factory=list[PromptSource])
    """Prompts that the model answers, greedily."""
    tasks: Annotated[list[HarnessTask], Field(max_length=16)] = Field(default_factory=list[HarnessTask])
    """Tasks of lm-evaluation-harness, asked and scored as its own command does."""
    max_new_tokens: int = Field(default=256, ge=1, le=8192)
    """Longest answer to a prompt, in tokens."""
    engine: Literal["Auto", "vLLM", "Transformers"] = "Auto"
    """What computes with the model: vLLM, which serves it, or transformers, on a CPU in float32. Auto takes vLLM for
    quantised weights, and where answering pays its start, if it is installed. The report says which, and why."""
    judge: Judge | None = None
    """A model that is asked how good answers are, for gates on win_rate and judge_score."""
    gates: Annotated[list[Gate], Field(max_length=32)] = Field(default_factory=list[Gate])
    """All of them must pass."""
    on_inconclusive: Literal["Hold", "Reject"] = "Hold"
    """What becomes of a run whose gates could not be judged. Held ends by the annotation slipway.dev/reevaluate."""

    @property
    def names(self) -> list[str]:
        """Returns the names of the sources that have one."""
        return [one.name for one in (*self.data, *self.prompts) if one.name is not None]

    @property
    def win_rate_over(self) -> Compared | None:
        """What win_rate compares with; None without a judge that compares."""
        return self.judge.compare if self.judge is not None else None

    def compared_with(self, gate: Gate) -> Compared | None:
        """Returns what a gate compares the model with; None where with nothing."""
        if gate.metric == WIN_RATE:
            return self.win_rate_over
        return None if gate.max_regression is None else gate.against or "Live"

    def compares_with(self, other: Compared) -> bool:
        """Whether some gate compares the model with it."""
        return any(self.compared_with(gate) == other for gate in self.gates)

    def is_absolute(self, gate: Gate) -> bool:
        """Whether a gate asks something of the model itself, and not beside another model, which may be as bad."""
        return (gate.max is not None or gate.min is not None) and self.compared_with(gate) in (None, "Reference")
