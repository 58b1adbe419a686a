"""The metrics that a gate can name, by what they are computed from."""

from __future__ import annotations

from typing import Literal, get_args

TextMetric = Literal["perplexity", "bits_per_byte", "word_perplexity", "byte_perplexity"]
RecallMetric = Literal["recall_count", "recall_rate"]
AnswerMetric = Literal["distinct_1", "distinct_2", "repetition_rate", "empty_rate"]
MetricName = Literal[TextMetric, RecallMetric, AnswerMetric]

TEXT_METRICS: tuple[str, ...] = get_args(TextMetric)
"""Scored on evaluation.data, token by token; minTokens is about these."""
RECALL_METRICS: tuple[str, ...] = get_args(RecallMetric)
"""Exact answers to the evaluation.prompts that have recall: true."""
ANSWER_METRICS: tuple[str, ...] = get_args(AnswerMetric)
"""Of the answers to all evaluation.prompts."""
HIGHER_IS_BETTER = frozenset({"recall_count", "recall_rate", "distinct_1", "distinct_2"})
POINT_METRICS = frozenset({*RECALL_METRICS, "distinct_1", "distinct_2"})
"""Figures that are taken as they are: a fixed list was asked in whole, and the different n-grams of all answers
together are no mean of anything."""
