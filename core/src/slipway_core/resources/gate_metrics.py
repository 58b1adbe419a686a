"""The metrics that a gate can name, by what they are computed from."""

from __future__ import annotations

import math
from typing import Annotated, Literal, get_args

from pydantic import Field

TextMetric = Literal["perplexity", "bits_per_byte", "word_perplexity", "byte_perplexity"]
ChatMetric = Literal["chat_perplexity", "chat_bits_per_byte"]
RecallMetric = Literal["recall_count", "recall_rate"]
AnswerMetric = Literal["distinct_1", "distinct_2", "repetition_rate", "empty_rate"]
ReferenceMetric = Literal[
    "exact_match",
    "contains",
    "token_f1",
    "rouge_l",
    "chrf",
    "bleu",
    "number_match",
    "regex_match",
    "json_valid",
    "json_schema",
    "language_match",
    "answer_length",
]
JudgeMetric = Literal["win_rate", "judge_score"]

METRIC_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_,@.-]{0,62}$"
"""Of a task also with the filter behind a comma, as lm-evaluation-harness prints both: exact_match,strict-match."""
MetricName = Annotated[str, Field(pattern=METRIC_PATTERN, max_length=63)]

TEXT_METRICS: tuple[str, ...] = get_args(TextMetric)
"""Scored on the texts of evaluation.data, token by token; minTokens is about these."""
CHAT_METRICS: tuple[str, ...] = get_args(ChatMetric)
"""Scored on the answers in the conversations of evaluation.data, token by token; minTokens is about these too."""
SCORED_METRICS = (*TEXT_METRICS, *CHAT_METRICS)
RECALL_METRICS: tuple[str, ...] = get_args(RecallMetric)
"""Exact answers to the evaluation.prompts that have recall: true."""
ANSWER_METRICS: tuple[str, ...] = get_args(AnswerMetric)
"""Of the answers to all evaluation.prompts."""
REFERENCE_METRICS: tuple[str, ...] = get_args(ReferenceMetric)
"""Of the answers to the evaluation.prompts without recall, held against what their rows say."""
JUDGE_METRICS: tuple[str, ...] = get_args(JudgeMetric)
"""What evaluation.judge says of the answers to the evaluation.prompts without recall; from 0 to 1."""
WIN_RATE = "win_rate"
JUDGE_SCORE = "judge_score"
COMPARED_METRICS = frozenset({"exact_match", "contains", "token_f1", "rouge_l", "chrf", "bleu", "number_match"})
"""Those that need a reference in the row."""
METRICS = (*TEXT_METRICS, *CHAT_METRICS, *RECALL_METRICS, *ANSWER_METRICS, *REFERENCE_METRICS, *JUDGE_METRICS)
HIGHER_IS_BETTER = frozenset(
    {"recall_count", "recall_rate", "distinct_1", "distinct_2", *REFERENCE_METRICS, *JUDGE_METRICS}
)
POINT_METRICS = frozenset({*RECALL_METRICS, "distinct_1", "distinct_2"})
"""Figures that are taken as they are: a fixed list was asked in whole, and the different n-grams of all answers
together are no mean of anything."""
CORPUS_METRICS = frozenset({"chrf", "bleu"})
"""Figures of all answers together, made of several sums."""
SHARE_METRICS = frozenset({*ANSWER_METRICS, *REFERENCE_METRICS, *JUDGE_METRICS}) - POINT_METRICS - CORPUS_METRICS
"""Means of what each answer scores between 0 and 1."""


def higher_is_better(metric: str, task: str | None = None) -> bool:
    """Whether more of a metric is better. Of a task it is: prepare refuses a gate on any other metric of one."""
    return task is not None or metric in HIGHER_IS_BETTER


def is_share(metric: str, task: str | None = None) -> bool:
    """Whether a metric is a mean of scores between 0 and 1. Of a task no other has bounds."""
    return task is not None or metric in SHARE_METRICS


def span(metric: str, task: str | None = None) -> tuple[float, float]:
    """Returns the least and the greatest that a metric can be, where it has bounds; infinite where nothing ends it."""
    if is_share(metric, task):
        return 0.0, 1.0
    if metric in CORPUS_METRICS:
        return 0.0, 100.0
    # A model gives no token more than all of its probability: it is right with 0 bits, and a perplexity of 1.
    return (1.0 if metric.endswith("perplexity") else 0.0), math.inf


def span_of_difference(metric: str, task: str | None = None) -> tuple[float, float]:
    """Returns the least and the greatest by which a metric of one model can be above that of another."""
    low, high = span(metric, task)
    return low - high, high - low


def unit(metric: str, task: str | None = None) -> str:
    """Returns what a metric's bounds are made of, for people."""
    if task is not None:
        return "documents of the task"
    if metric in TEXT_METRICS:
        return "documents"
    return "conversations" if metric in CHAT_METRICS else "prompts"


def titled(metric: str, source: str | None, slice: str | None, task: str | None = None) -> str:
    """Returns a metric with the rows that count, as a person reads it: `exact_match of source sums, slice hard`."""
    part = part_named(source, slice, task)
    return f"{metric} of {part}" if part else metric


def part_named(source: str | None, slice: str | None, task: str | None = None) -> str:
    """Returns the rows that count, as a person reads it: `source sums, slice hard`; nothing where all of them do. A
    source, a slice and a task may have the same name, so each is told with what it is."""
    named = {"task": task, "source": source, "slice": slice}
    return ", ".join(f"{what} {name}" for what, name in named.items() if name)
