import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from slipway_core.lifecycle.verdict import Measured, judge, threshold, told
from slipway_core.protocol.estimate import Estimate, Figure
from slipway_core.protocol.judged import JudgedMetric
from slipway_core.resources.evaluation import Gate
from slipway_core.resources.gate_metrics import METRICS, POINT_METRICS, SCORED_METRICS
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
    assert worse.reason == "perplexity is 9, worse by 2, wanted <= live + 1 (failed): the live version has 7"


@pytest.mark.parametrize(
    ("bounds", "estimate", "verdict"),
    [
        ({"max": 20.0}, (18.0, 16.5, 19.9), Verdict.PASS),
        ({"max": 20.0}, (18.0, 16.5, 20.0), Verdict.PASS),
        ({"max": 20.0}, (18.0, 16.5, 20.1), Verdict.INCONCLUSIVE),
        ({"max": 20.0}, (21.0, 20.0, 22.0), Verdict.INCONCLUSIVE),
        ({"max": 20.0}, (21.0, 20.1, 22.0), Verdict.FAIL),
        ({"min": 20.0}, (21.0, 20.0, 22.0), Verdict.PASS),
        ({"min": 20.0}, (21.0, 19.9, 22.0), Verdict.INCONCLUSIVE),
        ({"min": 20.0}, (19.0, 18.0, 20.0), Verdict.INCONCLUSIVE),
        ({"min": 20.0}, (19.0, 18.0, 19.9), Verdict.FAIL),
    ],
)
def test_C_a_gate_passes_by_its_worse_bound_and_fails_by_its_better_one(bounds, estimate, verdict):
    measured = Measured({"perplexity": estimate[0]}, 100, estimates=[Estimate(*estimate, n=100, clusters=40)])
    judged = judge([gate(confidence=0.95, **bounds)], measured)
    assert judged.verdict is verdict
    assert (judged.metrics[0].lower, judged.metrics[0].upper, judged.metrics[0].clusters) == (*estimate[1:], 40)


@pytest.mark.parametrize(
    ("estimate", "verdict"),
    [
        ((0.0, -0.1, 0.2), Verdict.PASS),
        ((0.1, -0.1, 0.3), Verdict.INCONCLUSIVE),
        ((0.3, 0.25, 0.4), Verdict.FAIL),
    ],
)
def test_C_a_regression_is_judged_by_the_bounds_of_the_difference(estimate, verdict):
    measured = Measured(
        {"perplexity": 7.0}, 100, baseline={"perplexity": 7.0 - estimate[0]}, estimates=[Estimate(*estimate, 100, 40)]
    )
    judged = judge([gate(max_regression=0.2, confidence=0.95)], measured)
    assert judged.verdict is verdict
    assert judged.metrics[0].difference == estimate[0]
    told = "7, worse by {:g} ({:g} to {:g})".format(*estimate)
    assert told in judged.reason


@pytest.mark.parametrize(
    ("estimate", "verdict"),
    [
        ((0.0, -0.1, 0.2), Verdict.PASS),
        ((0.1, -0.1, 0.3), Verdict.INCONCLUSIVE),
        ((0.3, 0.25, 0.4), Verdict.FAIL),
    ],
)
@pytest.mark.parametrize("live", [None, {"perplexity": 1.0}])
def test_A_against_the_base_is_judged_with_a_live_version_and_without(estimate, verdict, live):
    base = {"perplexity": 7.0 - estimate[0]}
    measured = Measured({"perplexity": 7.0}, 100, base=base, baseline=live, estimates=[Estimate(*estimate, 100, 40)])
    judged = judge([gate(max_regression=0.2, against="Base", confidence=0.95)], measured)
    assert judged.verdict is verdict
    assert judged.metrics[0].threshold == "<= base + 0.2"
    assert judged.metrics[0].difference == estimate[0]
    assert f"the base model has {base['perplexity']:g}" in judged.reason


def test_A_a_base_that_was_not_measured_is_inconclusive_and_says_why():
    gates = [gate(max_regression=0.2, against="Base", confidence=0.95)]
    live = {"perplexity": 7.0}
    silent = judge(gates, Measured({"perplexity": 7.0}, 100, baseline=live))
    assert (silent.verdict, "the base model's value was not measured" in silent.reason) == (Verdict.INCONCLUSIVE, True)
    told = judge(gates, Measured({"perplexity": 7.0}, 100, baseline=live, missing={"base": "it is gone"}))
    assert (told.verdict, "it is gone" in told.reason) == (Verdict.INCONCLUSIVE, True)
    unsure = judge(
        [gate(max_regression=0.2, against="Base")], Measured({"perplexity": 7.0}, base={"perplexity": math.inf})
    )
    assert unsure.verdict is Verdict.INCONCLUSIVE


def test_C_no_regression_at_all_asks_to_be_proven_better():
    def measured(upper):
        found = Estimate(-0.1, -0.3, upper, 100, 40)
        return Measured({"perplexity": 7.0}, 100, baseline={"perplexity": 7.1}, estimates=[found])

    gates = [gate(max_regression=0.0, confidence=0.95)]
    assert judge(gates, measured(0.01)).verdict is Verdict.INCONCLUSIVE
    assert judge(gates, measured(-0.01)).verdict is Verdict.PASS


def test_C_bounds_between_say_how_many_more_documents_would_decide():
    judged = judge(
        [gate(max=20.0, confidence=0.95)],
        Measured({"perplexity": 19.0}, 100, estimates=[Estimate(19.0, 17.5, 21.0, 100, 40)]),
    )
    assert judged.verdict is Verdict.INCONCLUSIVE
    assert judged.reason == (
        "perplexity 19 (17.5 to 21), wanted <= 20: about 120 more documents would decide, beside the 40 there are"
    )
    nearer = Measured({"perplexity": 18.0}, 100, estimates=[Estimate(18.0, 17.5, 21.0, 100, 40)])
    assert "about 50 more documents would decide" in judge([gate(max=20.0, confidence=0.95)], nearer).reason
    exactly = Measured({"perplexity": 20.0}, 100, estimates=[Estimate(20.0, 17.5, 21.0, 100, 40)])
    assert "no number of documents" in judge([gate(max=20.0, confidence=0.95)], exactly).reason


@pytest.mark.parametrize("figures", [(5.0, 0.1, 9.0), (1e300, 0.1, 1e308), (0.2, -1e308, 1e308), (-7.0, -9.0, 2.0)])
@pytest.mark.parametrize("bounds", [{"max": 0.4}, {"max_regression": 0.4}])
def test_C_figures_that_no_share_has_are_inconclusive_and_nothing_breaks(figures, bounds):
    found = Estimate(*figures, 40, 40)
    measured = Measured({"empty_rate": figures[0]}, baseline={"empty_rate": 0.1}, estimates=[found])
    assert judge([gate("empty_rate", confidence=0.95, **bounds)], measured).verdict is Verdict.INCONCLUSIVE


def test_C_fewer_than_eight_documents_are_inconclusive_whatever_they_say():
    few = Measured({"perplexity": 5.0}, 100, estimates=[Estimate(5.0, 4.9, 5.1, 100, 7)])
    judged = judge([gate(max=20.0, confidence=0.95)], few)
    assert judged.verdict is Verdict.INCONCLUSIVE
    assert "rests on 7 documents; 8 are" in judged.reason
    enough = Measured({"perplexity": 5.0}, 100, estimates=[Estimate(5.0, 4.9, 5.1, 100, 8)])
    assert judge([gate(max=20.0, confidence=0.95)], enough).verdict is Verdict.PASS
    assert judge([gate(max=20.0, confidence=0.5)], few).verdict is Verdict.PASS, "0.5 takes the figure as it is"
    assert judge([gate(max=20.0)], few).verdict is Verdict.PASS, "as runs of before were judged"


def test_C_a_gate_that_asks_for_bounds_is_never_judged_without_them():
    judged = judge([gate(max=20.0, confidence=0.95)], Measured({"perplexity": 5.0}, 100))
    assert judged.verdict is Verdict.INCONCLUSIVE


def test_a_fixed_list_is_taken_as_it_is():
    judged = judge(
        [gate("recall_count", min=20.0, confidence=0.95)],
        Measured({"recall_count": 21.0}, estimates=[Estimate(21.0, None, None, 40, 40)]),
    )
    assert judged.verdict is Verdict.PASS


@given(
    value=st.floats(1, 100),
    below=st.floats(0, 10),
    above=st.floats(0, 10),
    wanted=st.floats(1, 100),
    confidence=st.sampled_from([0.5, 0.9, 0.95]),
)
def test_A_a_gate_with_bounds_never_passes_a_figure_that_is_not_within_what_is_asked(
    value, below, above, wanted, confidence
):
    estimate = Estimate(value, value - below, value + above, 100, 40)
    for bounds, holds in (({"max": wanted}, value <= wanted), ({"min": wanted}, value >= wanted)):
        judged = judge(
            [gate(confidence=confidence, **bounds)], Measured({"perplexity": value}, 9, estimates=[estimate])
        )
        assert judged.verdict is not Verdict.PASS or holds
        assert judged.verdict is not Verdict.FAIL or not holds


def test_A_a_missing_metric_is_inconclusive_and_says_why():
    judged = judge([gate(max=20.0)], Measured({}, scored_tokens=100, missing={"perplexity": "the data was empty"}))
    assert judged.verdict is Verdict.INCONCLUSIVE
    assert "the data was empty" in judged.reason


def test_A_too_few_tokens_are_inconclusive_and_both_numbers_are_named():
    judged = judge([gate(max=20.0, min_tokens=1000)], Measured({"perplexity": 5.0}, scored_tokens=999))
    assert judged.verdict is Verdict.INCONCLUSIVE
    assert "999" in judged.reason
    assert "1000" in judged.reason


def test_as_many_tokens_as_are_asked_for_are_enough():
    assert judge([gate(max=20.0, min_tokens=100)], Measured({"perplexity": 5.0}, 100)).verdict is Verdict.PASS


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


def test_G_a_gate_goes_by_the_figure_of_its_source_and_slice_and_its_sentence_names_them():
    gates = [
        gate("exact_match", source="sums", slice="hard", min=0.5, confidence=0.95),
        gate("chat_perplexity", slice="hard", max=20.0, min_tokens=100),
        gate("perplexity", source="poems", max_regression=1.0),
    ]
    measured = Measured(
        {"exact_match": 0.9, "perplexity": 1.0},
        100_000,
        baseline={"perplexity": 1.0},
        estimates=[Estimate(0.4, 0.2, 0.45, 40, 40), None, None],
        figures=[Figure(0.4), Figure(9.0, tokens=99), Figure(9.0, 7.0, 1000)],
    )
    judged = judge(gates, measured)
    assert [(m.source, m.slice, m.value) for m in judged.metrics] == [
        ("sums", "hard", 0.4),
        (None, "hard", 9.0),
        ("poems", None, 9.0),
    ]
    assert [m.verdict for m in judged.metrics] == [Verdict.FAIL, Verdict.INCONCLUSIVE, Verdict.FAIL]
    assert judged.metrics[1].reason == "rests on 99 tokens, minTokens asks for 100"
    assert judged.reason == (
        "exact_match of source sums, slice hard is 0.4 (0.2 to 0.45), wanted >= 0.5 (failed); perplexity of source "
        "poems is 9, worse by 2, wanted <= live + 1 (failed): the live version has 7"
    )


def test_A_a_figure_without_a_value_is_inconclusive_with_its_reason():
    measured = Measured({"bleu": 99.0}, figures=[Figure(None, reason=1)], reasons=["no", "the template refuses it"])
    (found,) = judge([gate("bleu", min=10.0)], measured).metrics
    assert (found.verdict, found.reason) == (Verdict.INCONCLUSIVE, "the template refuses it")
    told = {
        Figure(None): "was not measured",
        Figure(None, reason=2): "was not measured",
        Figure(99.0): "the evaluation told no bounds of it",
    }
    for figure, words in told.items():
        measured = Measured({}, figures=[figure], reasons=["no", "the template refuses it"])
        (found,) = judge([gate("bleu", min=10.0, confidence=0.95)], measured).metrics
        assert (found.verdict, words in found.reason) == (Verdict.INCONCLUSIVE, True)


def test_A_a_figure_without_that_of_the_live_version_is_inconclusive_with_its_reason():
    gates, live = [gate("bleu", max_regression=1.0)], {"bleu": 9.0}
    for figure, words in ((Figure(9.0), "the live version's value was not measured"), (Figure(9.0, reason=0), "away")):
        measured = Measured({}, baseline=live, figures=[figure], reasons=["away"])
        assert judge(gates, measured).reason.endswith(words)
        assert judge(gates, measured).verdict is Verdict.INCONCLUSIVE


def test_only_a_win_rate_says_over_whom():
    assert threshold(gate("win_rate", min=0.5), "Live") == ">= 0.5 over live"
    assert threshold(gate("exact_match", min=0.5), "Live") == ">= 0.5"


def test_A_a_gate_on_a_slice_is_never_judged_by_the_figure_of_all_rows():
    """An image of an earlier release tells no figures of gates."""
    judged = judge([gate(slice="hard", max=20.0)], Measured({"perplexity": 5.0}, 100))
    assert judged.verdict is Verdict.INCONCLUSIVE
    assert "another release" in judged.reason


def test_few_conversations_are_called_what_they_are():
    few = Measured({}, estimates=[Estimate(5.0, 4.9, 5.1, 100, 7)], figures=[Figure(5.0, tokens=100)])
    assert "rests on 7 conversations" in judge([gate("chat_perplexity", max=20.0, confidence=0.95)], few).reason


def test_A_a_gate_on_a_task_is_of_that_task_alone_and_more_of_it_is_better():
    gates = [
        # Of text `perplexity` is less where it is better, and needs tokens; nothing of that is so of a task's.
        gate("perplexity", task="a", max_regression=0.1, min_tokens=1000, confidence=0.95),
        gate("recall_rate", task="a", min=0.5, confidence=0.95),
        gate("acc", task="b", min=0.5),
    ]
    estimates = [Estimate(0.3, 0.2, 0.4, 40, 40), Estimate(0.6, 0.55, 0.65, 4, 4), None]
    figures = [Figure(0.4, 0.7), Figure(0.6), Figure(None, reason=0)]
    judged = judge(
        gates, Measured({"acc": 0.9}, 0, baseline={}, estimates=estimates, figures=figures, reasons=["was not asked"])
    )
    assert [one.verdict for one in judged.metrics] == [Verdict.FAIL, Verdict.INCONCLUSIVE, Verdict.INCONCLUSIVE]
    assert judged.metrics[0].threshold == ">= live - 0.1"
    assert judged.metrics[0].title == "perplexity of task a"
    assert judged.metrics[1].reason == "rests on 4 documents of the task; 8 are the fewest that bounds can be told from"
    assert judged.metrics[2].reason == "was not asked"
    told = JudgedMetric(name="exact_match,strict-match", task="b", threshold=">= 0.5", verdict=Verdict.PASS)
    assert (told.key, told.title) == ("exact_match.strict-match/task/b", "exact_match,strict-match of task b")
    older = judge(gates[2:], Measured({"acc": 0.9}))
    assert older.metrics[0].verdict is Verdict.INCONCLUSIVE
    assert "nothing of this source, slice or task" in (older.metrics[0].reason or "")


JUDGED, MEASURED = Gate(metric="judge_score", min=0.5, confidence=0.95), Gate(metric="perplexity", max=20.0)
AGAINST_LIVE = Gate(metric="perplexity", max_regression=1.0)
NO_VALUE = Figure(None, reason=0)
PASSES, UNSURE = Estimate(9.0, 8.0, 10.0, 40, 40), Estimate(19.0, 15.0, 23.0, 40, 40)


@pytest.mark.parametrize(
    ("gates", "figures", "silent", "says_nothing"),
    [
        ([JUDGED], [NO_VALUE], True, True),
        ([MEASURED, JUDGED], [Figure(9.0, tokens=100), NO_VALUE], True, True),
        ([AGAINST_LIVE], [Figure(9.0, tokens=100, reason=0)], False, True),
        ([AGAINST_LIVE, JUDGED], [Figure(9.0, tokens=100, reason=0), NO_VALUE], True, True),
        ([JUDGED], [NO_VALUE], False, False),  # The model has no answers.
        ([MEASURED], [NO_VALUE], True, False),  # What it computes is no number.
        ([MEASURED, JUDGED], [NO_VALUE, NO_VALUE], True, False),
        ([MEASURED, JUDGED], [Figure(9.0, tokens=0), NO_VALUE], True, False),
        ([AGAINST_LIVE], [Figure(9.0, tokens=0, reason=0)], False, False),
        ([Gate(metric="judge_score", task="own", min=0.5)], [NO_VALUE], True, False),
    ],
)
def test_A_a_judgement_says_nothing_where_only_what_stands_beside_the_model_is_missing(
    gates, figures, silent, says_nothing
):
    measured = Measured({}, baseline={}, figures=figures, reasons=["why"], judge_silent=silent)
    judged = judge(gates, measured)
    assert (judged.verdict, judged.says_nothing) == (Verdict.INCONCLUSIVE, says_nothing)


@pytest.mark.parametrize("against", ["Live", "Base"])
def test_A_whoever_compares_with_what_cannot_be_measured_hides_nothing_that_was_found_out(against):
    """The author of a run chooses its base, and the endpoint of the live version."""
    beside = Gate(metric="perplexity", max_regression=1.0, against=against)
    nothing, own = Figure(30.0, tokens=100, reason=0), Figure(30.0, tokens=100)

    def found(*gates_and_figures):
        gates, figures = zip(*gates_and_figures, strict=True)
        judged = judge(gates, Measured({}, baseline={}, figures=figures, reasons=["it cannot be read"]))
        return judged.verdict, judged.says_nothing

    assert found((beside, nothing)) == (Verdict.INCONCLUSIVE, True)
    assert found((beside, nothing), (Gate(metric="perplexity", max=40.0), own)) == (Verdict.INCONCLUSIVE, True)
    assert found((beside, nothing), (MEASURED, own)) == (Verdict.FAIL, False)
    for broken in (Figure(None, tokens=100, reason=0), Figure(30.0, tokens=0, reason=0)):
        assert found((beside, broken)) == (Verdict.INCONCLUSIVE, False), "that is the model's own"


def test_A_a_judgement_that_found_something_out_says_it_whatever_else_is_missing():
    gates = [Gate(metric="perplexity", max=20.0, confidence=0.95), JUDGED]

    def found(value, estimate):
        figures = [Figure(value, tokens=100), NO_VALUE]
        return judge(gates, Measured({}, figures=figures, estimates=[estimate], reasons=["why"], judge_silent=True))

    assert [(one.verdict, one.says_nothing) for one in (found(9.0, PASSES), found(19.0, UNSURE))] == [
        (Verdict.INCONCLUSIVE, True),
        (Verdict.INCONCLUSIVE, False),
    ]
    failed = found(30.0, Estimate(30.0, 25.0, 35.0, 40, 40))
    assert (failed.verdict, failed.says_nothing) == (Verdict.FAIL, False)


ENDS = {"bits_per_byte": (0, math.inf), "chat_bits_per_byte": (0, math.inf), "chrf": (0, 100), "bleu": (0, 100)}
"""Of perplexities 1 and none, of all others 0 and 1."""


@st.composite
def estimated(draw):
    """Returns a gate whose threshold lies between the ends of its metric, and an estimate that knows of no ends."""
    metric = draw(st.sampled_from([one for one in METRICS if one not in POINT_METRICS]))
    low, high = ENDS.get(metric, (1, math.inf) if "perplexity" in metric else (0, 1))
    most = min(high, 100)
    kind = draw(st.sampled_from(["max", "min", "maxRegression"] if metric != "win_rate" else ["min"]))
    if kind == "maxRegression":
        low, high = low - high, high - low
        value, wanted = draw(st.floats(max(low, -most), most)), draw(st.floats(0, most))
    else:
        value, wanted = draw(st.floats(low, most)), draw(st.floats(low, most))
    # What any model meets is no question: it is told of below.
    assume(wanted != (low if kind == "min" else high))
    below, above = draw(st.floats(0, 2 * most)), draw(st.floats(0, 2 * most))
    asked = gate(metric, **{kind: wanted}, confidence=0.95)
    return asked, Estimate(value, value - below, value + above, 1000, draw(st.integers(1, 50))), (low, high)


@given(estimated())
def test_C_bounds_are_told_within_the_range_of_the_metric_and_the_verdict_is_the_same_by_them(found):
    asked, estimate, (low, high) = found

    def judged(by: Estimate):
        # The other model's figure, of a regression.
        figure = Figure(estimate.value, 1.0, 1000)
        return judge(
            [asked], Measured({}, 1000, baseline={}, estimates=[by], figures=[figure]), win_rate_over="Reference"
        )

    [metric] = judged(estimate).metrics
    assert low <= metric.lower <= estimate.value <= metric.upper <= high
    as_told = estimate._replace(lower=metric.lower, upper=metric.upper)
    assert judged(as_told).verdict is metric.verdict


@pytest.mark.parametrize(
    ("metric", "task", "bounds"),
    [
        ("chrf", None, (0.0, 100.0)),
        ("bleu", None, (0.0, 100.0)),
        ("bits_per_byte", None, (0.0, 250.0)),
        ("chat_perplexity", None, (1.0, 250.0)),
        ("word_perplexity", None, (1.0, 250.0)),
        ("rouge_l", None, (0.0, 1.0)),
        ("judge_score", None, (0.0, 1.0)),
        ("acc", "arc_easy", (0.0, 1.0)),
        ("bleu", "arc_easy", (0.0, 1.0)),
    ],
)
def test_every_metric_has_its_own_range(metric, task, bounds):
    asked = gate(metric, task=task, max=1.0, confidence=0.95)
    assert told(asked, Estimate(1.0, -50.0, 250.0, 9, 9))[1:3] == bounds
    worse = gate(metric, task=task, maxRegression=0.1, confidence=0.95)
    reach = bounds[1] if bounds[1] < 250 else 250.0
    assert told(worse, Estimate(0.1, -250.0, 250.0, 9, 9))[1:3] == (-reach, reach)
    assert metric in SCORED_METRICS or reach < 250


def test_C_how_many_more_rows_would_decide_is_told_by_the_bounds_as_they_are():
    """The moved one is half as far from the figure as what the figure varies by."""
    estimate = Estimate(98.0, 94.0, 102.0, 1000, 40)
    [metric] = judge([gate("chrf", min=99, confidence=0.95)], Measured({"chrf": 98.0}, estimates=[estimate])).metrics
    assert metric.upper == 100
    assert metric.reason == "about 600 more prompts would decide, beside the 40 there are"


def test_A_a_threshold_at_the_end_of_a_metric_passes_nothing_that_it_did_not():
    estimate = Estimate(98.0, 94.0, 102.0, 1000, 40)
    [metric] = judge([gate("chrf", max=100, confidence=0.95)], Measured({"chrf": 98.0}, estimates=[estimate])).metrics
    assert (metric.verdict, metric.upper) == (Verdict.INCONCLUSIVE, 100)


def test_a_figure_beyond_the_end_by_a_rounding_stays_between_its_bounds():
    found = told(gate("bits_per_byte", max=1, confidence=0.95), Estimate(-1e-9, -2e-9, 1e-9, 9, 9))
    assert found == Estimate(-1e-9, -1e-9, 1e-9, 9, 9)
