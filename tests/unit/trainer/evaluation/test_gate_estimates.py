"""Which estimate a gate is given: of the metric, or of how much worse than live it is on the same rows."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from slipway_core.protocol.estimate import Estimate
from slipway_core.resources.evaluation import Gate
from slipway_trainer.evaluation.estimates import gate_estimates
from slipway_trainer.evaluation.estimates.observed import Observed

random = np.random.default_rng(0)
TOKENS = np.maximum(2, random.lognormal(5, 0.8, 40).round())
NATS = TOKENS * np.exp(random.normal(0, 0.15, 40)) * 3


def of(
    gate: dict[str, Any], candidate: dict[str, Observed], live: dict[str, Observed] | None = None
) -> Estimate | None:
    asked = Gate.model_validate({"confidence": 0.95} | gate)
    theirs = None if live is None else live.get(asked.metric)
    return gate_estimates.of_gate(asked, candidate.get(asked.metric), theirs)


def perplexity(nats: Any = NATS) -> dict[str, Observed]:
    return {"perplexity": Observed("ExpRatio", nats, TOKENS)}


def shares(*scores: float | None) -> dict[str, Observed]:
    told = np.array([score is not None for score in scores])
    return {"empty_rate": Observed("Share", np.array([score or 0.0 for score in scores]), told * 1.0)}


def test_perplexity_is_told_with_its_own_bounds_and_what_it_rests_on() -> None:
    found = of({"metric": "perplexity", "max": 20.0}, perplexity())
    assert found is not None
    assert found.value == pytest.approx(math.exp(NATS.sum() / TOKENS.sum()))
    assert found.lower is not None
    assert found.upper is not None
    assert found.lower < found.value < found.upper
    assert (found.n, found.clusters) == (TOKENS.sum(), 40)


def test_a_regression_of_perplexity_is_how_much_higher_it_is() -> None:
    found = of({"metric": "perplexity", "maxRegression": 0.5}, perplexity(NATS + 0.01 * TOKENS), perplexity())
    before = math.exp(NATS.sum() / TOKENS.sum())
    assert found is not None
    assert found.value == pytest.approx(before * (math.exp(0.01) - 1))
    assert found.upper is not None
    assert found.lower is not None
    # The same shift in every document: all that is left is how far the perplexity itself is known.
    assert 0 < found.lower < found.upper < 1.5 * found.value


def test_a_regression_of_a_share_is_told_from_the_rows_that_both_have() -> None:
    candidate = shares(1, 0, 0, 0, None, *[0.0] * 20)
    live = shares(0, 0, 0, 1, 1, *[0.0] * 19, None)
    found = of({"metric": "empty_rate", "maxRegression": 0.1}, candidate, live)
    assert found is not None
    assert found.value == 0
    assert found.clusters == 23


def test_a_repetition_rate_leaves_out_answers_that_have_none() -> None:
    found = of({"metric": "empty_rate", "max": 0.5}, shares(*[0.0] * 10, None, 1.0))
    assert found is not None
    assert found.value == pytest.approx(1 / 11)
    assert found.clusters == 11


@pytest.mark.parametrize(
    "gate",
    [
        {"metric": "recall_count", "min": 1.0},
        {"metric": "distinct_1", "min": 0.1},
        {"metric": "perplexity", "max": 20.0, "confidence": 0.5},
        {"metric": "perplexity", "max": 20.0, "confidence": None},
        {"metric": "perplexity", "maxRegression": 0.1},
    ],
)
def test_a_gate_that_needs_no_bounds_or_has_nothing_to_compare_with_is_given_none(gate: dict[str, Any]) -> None:
    assert of(gate, perplexity()) is None


def test_data_of_another_live_version_is_not_compared_row_by_row() -> None:
    other = {"perplexity": Observed("ExpRatio", NATS[:-1], TOKENS[:-1])}
    assert of({"metric": "perplexity", "maxRegression": 0.1}, perplexity(), other) is None


def test_a_figure_above_the_largest_number_has_no_estimate() -> None:
    assert of({"metric": "perplexity", "max": 20.0}, perplexity(NATS * 1000)) is None
