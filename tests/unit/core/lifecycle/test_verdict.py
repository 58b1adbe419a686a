import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway_core.lifecycle.verdict import Measured, judge
from slipway_core.resources.evaluation import Gate
from slipway_core.resources.status import Verdict


def gate(metric="perplexity", **bounds):
    return Gate(metric=metric, **bounds)


@pytest.mark.parametrize(
    ("bounds", "value", "verdict"),
    [
        ({"max": 20.0}, 19.9, Verdict.PASS),
        ({"max": 20.0}, 20.0, Verdict.PASS),
        ({"max": 20.0}, 20.1, Verdict.FAIL),
        ({"min": 20.0}, 20.0, Verdict.PASS),
        ({"min": 20.0}, 19.9, Verdict.FAIL),
        ({"max": 20.0}, math.nan, Verdict.INCONCLUSIVE),
        ({"max": 20.0}, math.inf, Verdict.INCONCLUSIVE),
        ({"min": 20.0}, math.inf, Verdict.INCONCLUSIVE),
        ({"max": 20.0}, -math.inf, Verdict.INCONCLUSIVE),
    ],
)
def test_A_an_absolute_gate(bounds, value, verdict):
    judged = judge([gate(**bounds)], Measured({"perplexity": value}, scored_tokens=100))
    assert judged.verdict is verdict
    if verdict is Verdict.INCONCLUSIVE:
        assert judged.metrics[0].value is None


def test_G_a_gate_that_failed_does_not_read_as_one_that_passed():
    gates = [gate("bits_per_byte", max=2.9), gate("recall_count", min=20.0), gate(max=200.0)]
    failed = judge(gates, Measured({"bits_per_byte": 3.49386, "recall_count": 0.0, "perplexity": 9.0}, 100))
    assert failed.reason == "bits_per_byte is 3.49386, wanted <= 2.9 (failed); recall_count is 0, wanted >= 20 (failed)"
    passed = judge(gates[:1], Measured({"bits_per_byte": 2.738}, 100))
    assert passed.reason == "bits_per_byte 2.738, wanted <= 2.9"
    missing = judge(gates[:1], Measured({}))
    assert missing.reason == "bits_per_byte has no value, wanted <= 2.9: was not measured"
    worse = judge([gate(max_regression=1.0)], Measured({"perplexity": 9.0}, 100, baseline={"perplexity": 7.0}))
    assert worse.reason == "perplexity is 9, wanted <= live + 1 (failed): the live version has 7"


def test_A_a_missing_metric_is_inconclusive_and_says_why():
    judged = judge([gate(max=20.0)], Measured({}, scored_tokens=100, missing={"perplexity": "the data was empty"}))
    assert judged.verdict is Verdict.INCONCLUSIVE
    assert "the data was empty" in judged.reason


def test_A_too_few_tokens_are_inconclusive_and_both_numbers_are_named():
    judged = judge([gate(max=20.0, min_tokens=1000)], Measured({"perplexity": 5.0}, scored_tokens=999))
    assert judged.verdict is Verdict.INCONCLUSIVE
    assert "999" in judged.reason
    assert "1000" in judged.reason


def test_tokens_do_not_matter_to_what_is_not_scored_on_them():
    judged = judge([gate("recall_count", min=20.0, min_tokens=1000)], Measured({"recall_count": 20.0}))
    assert judged.verdict is Verdict.PASS


@pytest.mark.parametrize(
    ("metric", "live", "new", "allowed", "verdict"),
    [
        ("bits_per_byte", 2.00, 2.02, 0.0200001, Verdict.PASS),
        ("bits_per_byte", 2.00, 2.03, 0.02, Verdict.FAIL),
        ("bits_per_byte", 2.00, 1.00, 0.0, Verdict.PASS),
        ("recall_count", 20.0, 19.0, 1.0, Verdict.PASS),
        ("recall_count", 20.0, 18.0, 1.0, Verdict.FAIL),
        ("recall_count", 20.0, 30.0, 0.0, Verdict.PASS),
    ],
)
def test_a_regression_is_in_the_metrics_own_unit_and_direction(metric, live, new, allowed, verdict):
    measured = Measured({metric: new}, scored_tokens=100, baseline={metric: live})
    assert judge([gate(metric, max_regression=allowed)], measured).verdict is verdict


def test_a_regression_without_a_live_version_is_not_applicable_and_does_not_pass_alone():
    relative = gate("bits_per_byte", max_regression=0.1)
    measured = Measured({"bits_per_byte": 2.0, "perplexity": 5.0}, scored_tokens=100)
    assert judge([relative], measured).verdict is Verdict.NOT_APPLICABLE
    assert judge([relative, gate(max=20.0)], measured).verdict is Verdict.PASS


def test_A_a_regression_against_a_live_version_that_was_not_measured_is_inconclusive():
    measured = Measured({"bits_per_byte": 2.0}, scored_tokens=100, baseline={})
    assert judge([gate("bits_per_byte", max_regression=0.1)], measured).verdict is Verdict.INCONCLUSIVE


def test_no_gates_pass_nothing():
    judged = judge([], Measured({"perplexity": 1.0}, scored_tokens=100))
    assert (judged.verdict, judged.reason) == (Verdict.NOT_APPLICABLE, "the run has no gates")


values = st.one_of(st.none(), st.floats(allow_nan=True, allow_infinity=True))


@given(
    st.lists(st.tuples(st.sampled_from(["max", "min", "max_regression"]), st.floats(0, 100)), min_size=1, max_size=4),
    values,
    values,
    st.booleans(),
    st.integers(0, 200),
)
def test_A_nothing_passes_on_a_value_that_is_missing_or_not_finite(bounds, value, live, is_live, tokens):
    gates = [gate(**{kind: bound}, min_tokens=100) for kind, bound in bounds]
    metrics = {} if value is None else {"perplexity": value}
    baseline = ({} if live is None else {"perplexity": live}) if is_live else None
    judged = judge(gates, Measured(metrics, scored_tokens=tokens, baseline=baseline))
    if value is None or not math.isfinite(value) or tokens < 100:
        assert judged.verdict is not Verdict.PASS
    if judged.verdict is Verdict.PASS:
        assert any(m.verdict is Verdict.PASS for m in judged.metrics)
        assert all(m.verdict in (Verdict.PASS, Verdict.NOT_APPLICABLE) for m in judged.metrics)
