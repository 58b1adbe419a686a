"""Whether a gate asks at least what a required one does."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway_core.lifecycle.verdict import Measured, judge
from slipway_core.protocol.estimate import Estimate
from slipway_core.resources.evaluation import Gate
from slipway_core.resources.gate_metrics import JUDGE_METRICS, METRICS, POINT_METRICS, SCORED_METRICS
from slipway_core.resources.promotion import Promotion, RequiredGate
from slipway_core.resources.required_gates import (
    PassedGate,
    asked_of,
    describe,
    held_against,
    passed_of,
    record_of,
    served_beside,
    shortfalls,
)
from slipway_core.resources.status import AskedStatus, MetricStatus, Verdict, VersionStatus


def gate(**fields: Any) -> Gate:
    return Gate.model_validate({"metric": "perplexity", **fields}, by_alias=True, by_name=False)


def required(one: Gate, data: str | None = None) -> RequiredGate:
    return RequiredGate.model_validate({**one.to_document(), "data": data}, by_alias=True, by_name=False)


def lacks(one: Gate, *asked: Gate) -> list[str]:
    return [str(found) for found in shortfalls([required(one)], asked_of(asked), beside=())]


LIVE, JUNK = "sha256:" + "aa" * 32, "sha256:" + "bb" * 32
MAX = gate(max=20.0, confidence=0.95, minTokens=100)


@pytest.mark.parametrize(
    ("required", "asked", "why"),
    [
        (gate(max=20.0), MAX, None),
        (gate(max=20.0, minTokens=100), gate(max=19.9, confidence=0.99, minTokens=5000), None),
        (gate(max=20.0), gate(max=1e9, confidence=0.95), "max is 1000000000, and must be at most 20"),
        (gate(max=1.2), gate(max=1.2000001, confidence=0.95), "max is 1.2000001, and must be at most 1.2"),
        (gate(max=20.0), gate(max=20.0, confidence=0.9), "confidence is 0.9, and must be at least 0.95"),
        (gate(max=20.0), gate(max=20.0), "confidence is 0.5, and must be at least 0.95"),
        (gate(max=20.0, confidence=0.5), gate(max=20.0), None),
        (gate(max=20.0, minTokens=100), gate(max=20.0, confidence=0.95), "minTokens is 1, and must be at least 100"),
        (gate(max=20.0), gate(max=20.0, confidence=0.95, source="web"), "no gate asks that"),
        (gate(max=20.0, source="web"), MAX, "no gate asks that"),
        (gate(max=20.0, slice="hard"), gate(max=20.0, confidence=0.95, slice="easy"), "no gate asks that"),
        (gate(max=20.0), gate(metric="bits_per_byte", max=1.0, confidence=0.95), "no gate asks that"),
        (gate(max=20.0), gate(min=1.0, confidence=0.95), "no gate asks that"),
        (gate(max=20.0), gate(maxRegression=0.0, confidence=0.95), "no gate asks that"),
        (gate(maxRegression=0.1), gate(maxRegression=0.1, against="Live", confidence=0.95), None),
        (gate(maxRegression=0.1, against="Live"), gate(maxRegression=0.0, confidence=0.95), None),
        (gate(maxRegression=0.1), gate(maxRegression=0.1, against="Base", confidence=0.95), "no gate asks that"),
        (gate(maxRegression=0.1), gate(maxRegression=0.2, confidence=0.95), "maxRegression is 0.2"),
        (gate(metric="chrf", min=30.0), gate(metric="chrf", min=31.0, confidence=0.95), None),
        (gate(metric="chrf", min=30.0), gate(metric="chrf", min=0.0, confidence=0.95), "min is 0, and must be at le"),
        # Of a fixed list that was asked in whole there are no bounds, and of answers no tokens are counted.
        (gate(metric="recall_rate", min=0.9), gate(metric="recall_rate", min=0.9), None),
        (gate(metric="chrf", min=30.0, minTokens=9), gate(metric="chrf", min=30.0, confidence=0.95), None),
    ],
)  # fmt: skip
def test_A_a_gate_answers_a_required_one_that_is_about_the_same_and_nowhere_stricter(required, asked, why):
    found = lacks(required, asked)
    assert (found == []) == (why is None), found
    assert why is None or (why in found[0] and found[0].startswith(f"{describe(required)}: "))


def test_one_gate_alone_has_to_be_all_of_it():
    loose, unsure = gate(max=30.0, confidence=0.95), gate(max=20.0, confidence=0.5)
    assert lacks(gate(max=20.0), loose, unsure) == ["perplexity, max 20: max is 30, and must be at most 20"], (
        "of several the one that lacks least is told"
    )
    assert lacks(gate(max=20.0), loose, unsure, MAX) == []


def test_A_a_regression_for_which_nothing_was_live_answers_only_while_nothing_is():
    asked = [required(gate(maxRegression=0.1))]
    passed = [PassedGate(gate(maxRegression=0.1, confidence=0.95), compared=False)]
    assert shortfalls(asked, passed, beside=()) == []
    (told,) = shortfalls(asked, passed, beside={LIVE})
    assert "no version was live to compare with when it was judged" in str(told)


def test_A_what_was_compared_with_another_endpoints_model_answers_nothing():
    """Whoever may make an endpoint can have it serve a model that is bad enough to be no worse than."""
    one = gate(maxRegression=0.1, confidence=0.95)
    asked = [required(one.model_copy(update={"confidence": 0.5}))]
    for beside, answers_it in ((LIVE, True), (JUNK, False), (None, False)):
        passed = [PassedGate(one, beside=beside)]
        assert (shortfalls(asked, passed, beside={LIVE}) == []) == answers_it
    base = gate(maxRegression=0.1, against="Base", confidence=0.95)
    assert shortfalls([required(base)], [PassedGate(base, beside=JUNK)], beside={LIVE}) == [], (
        "which has nothing to do with that"
    )


def test_an_endpoint_serves_beside_a_model_what_is_live_and_was():
    states = {"b": "Standby", "c": "Retired", "d": "Failed", "e": "Dropped"}
    live, *history = (
        VersionStatus(version=1, uri="pvc://m/m", digest=f"sha256:{letter * 64}", state=state, since="")
        for letter, state in {"a": "Live", **states}.items()
    )
    assert served_beside(live.digest, live, history) == frozenset()
    assert served_beside(live.digest, None, history) == frozenset()
    assert {one[7] for one in served_beside(history[0].digest, live, history)} == {"a", "b", "c", "d"}


BESIDE_LIVE, BESIDE_BASE = gate(maxRegression=0.1), gate(maxRegression=0.1, against="Base")


@pytest.mark.parametrize(
    ("state", "comes_back"),
    [
        ("Live", True),  # Other settings of it.
        ("Standby", True),
        ("Retired", True),
        # It may have failed before it was live; and what failed while it was is nothing to go back to.
        ("Failed", False),
        ("Dropped", False),
        ("Starting", False),
        (None, False),
    ],
)
def test_A_what_is_beside_the_live_version_is_not_asked_of_a_model_that_was_it(state: Any, comes_back: bool):
    live = VersionStatus(version=2, uri="pvc://m/m", digest=LIVE, state="Live", since="")
    known = [] if state is None else [live.model_copy(update={"version": 1, "digest": JUNK, "state": state})]
    now, history = (known[0], []) if state == "Live" else (live, known)
    asked = [required(one) for one in (gate(max=20.0), BESIDE_BASE, BESIDE_LIVE, gate(maxRegression=0, against="Live"))]
    assert held_against(asked, JUNK, now, history) == (asked[:2] if comes_back else asked)


@pytest.mark.parametrize("over", ["Live", "Base", "Reference"])
def test_A_a_judges_win_rate_answers_nothing_and_the_verdict_says_what_it_was_over(over):
    asked = record_of(gate(metric="win_rate", min=0.5, confidence=0.95), over)
    assert asked.against == over
    said = MetricStatus(name="win_rate", threshold="", verdict=Verdict.PASS, asked=asked)
    assert passed_of([said], LIVE) == []


# ------------------------------------------------------------------------------------------------ on which data

POEMS, EASY = "sha256:" + "cc" * 32, "sha256:" + "dd" * 32


@pytest.mark.parametrize(
    ("asked", "measured", "foreseen", "why"),
    [
        (None, EASY, False, None),
        (None, None, False, None),
        (POEMS, POEMS, False, None),
        (POEMS, EASY, False, f"it is measured on {EASY}, and must be on {POEMS}"),
        (POEMS, None, False, f"since an earlier release judged or prepared it, and must be on {POEMS}"),
        # Before prepare has ended nobody knows, and nobody may say that it is lacking.
        (POEMS, None, True, None),
        (POEMS, POEMS, True, None),
        (POEMS, EASY, True, f"it is measured on {EASY}, and must be on {POEMS}"),
    ],
)
def test_A_a_gate_on_data_that_is_required_is_answered_by_one_on_exactly_that(asked, measured, foreseen, why):
    found = shortfalls([required(MAX, asked)], [PassedGate(MAX, data=measured, foreseen=foreseen)], beside=())
    assert [str(one) for one in found] == ([] if why is None else [str(found[0])])
    assert why is None or (why in found[0].why and f"perplexity, max 20 on {POEMS}: " in str(found[0]))


def test_A_one_gate_has_both_the_data_and_the_threshold():
    """A strict gate on easy data and a lax one on the data that is asked for are none."""
    lax = gate(max=1e9, confidence=0.95, minTokens=100)
    passed = [PassedGate(MAX, data=EASY), PassedGate(lax, data=POEMS)]
    assert len(shortfalls([required(MAX, POEMS)], passed, beside=())) == 1
    assert shortfalls([required(MAX, POEMS)], [*passed, PassedGate(MAX, data=POEMS)], beside=()) == []


def test_a_weaker_gate_is_told_so_though_its_data_is_not_known_yet():
    (told,) = shortfalls([required(gate(max=20.0), POEMS)], asked_of([gate(max=30.0, confidence=0.95)]), beside=())
    assert str(told) == f"perplexity, max 20 on {POEMS}: max is 30, and must be at most 20"


# ------------------------------------------------------------------------------------------------ what a verdict says


def _judged(*gates: Gate, **measured: Any) -> list[MetricStatus]:
    exact = [Estimate(10.0, 10.0, 10.0, 1000, 40)] * len(gates)
    found = Measured({"perplexity": 10.0}, scored_tokens=1000, estimates=exact, **measured)
    return list(judge(gates, found).metrics)


def test_a_verdict_says_what_its_gates_asked_to_the_last_digit():
    gates = [gate(max=20.0000001, confidence=0.97, minTokens=7), gate(maxRegression=0.1, confidence=0.95)]
    passed = passed_of(_judged(*gates))
    assert [one.gate for one in passed] == gates
    assert [one.compared for one in passed] == [True, False], "nothing was live"


def test_A_a_gate_that_did_not_pass_answers_nothing():
    assert passed_of(_judged(gate(max=9.0, confidence=0.95))) == []


@pytest.mark.parametrize(
    "asked",
    [None, AskedStatus(), AskedStatus(max=1.0, min=1.0), AskedStatus(max=1.0, against="Tomorrow")],
)
def test_A_what_a_release_judged_that_says_it_otherwise_answers_nothing(asked):
    metric = MetricStatus(name="perplexity", threshold="<= 20", verdict=Verdict.PASS, asked=asked)
    assert passed_of([metric]) == []


def test_a_verdict_has_all_that_tells_two_gates_apart():
    """Whoever adds a field to a gate has to say whether one with it answers one without."""
    said = {*MetricStatus.model_fields, *AskedStatus.model_fields, "metric"}
    assert set(RequiredGate.model_fields) <= said


# ------------------------------------------------------------------------------------------------ of any gates

FIGURES = st.floats(0, 1e6, allow_nan=False)
SCOPES = st.sampled_from([None, "web", "books"])
REQUIRABLE = [metric for metric in METRICS if metric not in JUDGE_METRICS]


@st.composite
def gates(draw: st.DrawFn) -> Gate:
    kind = draw(st.sampled_from(["max", "min", "maxRegression"]))
    against = {"against": draw(st.sampled_from(["Live", "Base"]))} if kind == "maxRegression" else {}
    return gate(
        metric=draw(st.sampled_from(REQUIRABLE)),
        source=draw(SCOPES),
        slice=draw(SCOPES),
        minTokens=draw(st.integers(1, 10**6)),
        confidence=draw(st.floats(0.5, 0.999)),
        **{kind: draw(FIGURES)},
        **against,
    )


def answers(asked: Gate, required: Gate) -> bool:
    return lacks(required, asked) == []


@given(gates())
def test_a_gate_answers_itself(one: Gate):
    assert answers(one, one)
    asked = record_of(one)
    metric = MetricStatus(
        name=one.metric, source=one.source, slice=one.slice, threshold="", verdict=Verdict.PASS, asked=asked
    )
    assert [told.gate for told in passed_of([metric])] == [one]


@given(gates(), gates(), gates())
def test_what_answers_a_stricter_one_answers_a_looser_one(asked: Gate, middle: Gate, loose: Gate):
    same = {name: getattr(asked, name) for name in ("metric", "source", "slice")}
    middle, loose = middle.model_copy(update=same), loose.model_copy(update=same)
    if answers(asked, middle) and answers(middle, loose):
        assert answers(asked, loose)


@given(gates(), st.floats(1e-3, 1e3), st.sampled_from(["threshold", "confidence", "min_tokens", "source", "slice"]))
def test_A_a_gate_that_is_weaker_anywhere_answers_nothing(one: Gate, by: float, where: str):
    if where == "threshold":
        name = next(name for name in ("max", "min", "max_regression") if getattr(one, name) is not None)
        figure = getattr(one, name)
        update = {name: figure - by if name == "min" else figure + by}
    elif where == "confidence":
        update = {"confidence": 0.5, **({} if one.confidence != 0.5 else {"confidence": None})}
        if one.metric in POINT_METRICS or (one.confidence or 0) <= 0.5:
            return
    elif where == "min_tokens":
        if one.metric not in SCORED_METRICS or one.min_tokens == 1:
            return
        update = {"min_tokens": one.min_tokens - 1}
    else:
        update = {where: "elsewhere"}
    assert not answers(one.model_copy(update=update), one)


@pytest.mark.parametrize("metric", JUDGE_METRICS)
def test_what_a_judge_of_the_runs_own_choice_says_cannot_be_required(metric: str) -> None:
    # A run says who judges and what win_rate is beside; its verdict would answer whatever that is.
    asked = {"mode": "Approval", "requiredGates": [{"metric": "chrf", "min": 20}, {"metric": metric, "min": 0.5}]}
    with pytest.raises(ValueError, match="win_rate and judge_score cannot be required: who judges"):
        Promotion.model_validate(asked, by_alias=True, by_name=False)
    assert Promotion.model_validate({"requiredGates": asked["requiredGates"][:1]}, by_alias=True, by_name=False)
