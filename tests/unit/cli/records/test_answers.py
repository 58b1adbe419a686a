"""Which answers are shown: the worst ones, and those that changed most."""

import pytest
from tests.unit.cli.evidence import run_named

from slipway.records import answers
from slipway.records.record import Record
from slipway_core.resources.status import RunStatus


def record(*samples, live=None):
    asked = [{"conversations": [{"role": "user", "content": f"q{n}"}], **one} for n, one in enumerate(samples)]
    return Record(run_named(), RunStatus(), samples=asked, live_samples=live or {})


def test_the_answers_least_like_what_was_wanted_come_first_and_right_ones_are_left_out():
    found = answers.worst(
        record(
            {"answer": "right", "wanted": "right", "exact": True},
            {"answer": "almost right", "wanted": "almost right.", "exact": False},
            {"answer": "床前看月光", "wanted": "床前明月光", "exact": False},
            {"answer": "", "wanted": "床前明月光", "exact": False},
            {"answer": "12 34", "wanted": "xyz", "exact": False},
        )
    )
    assert [one.prompt for one in found] == ["q3", "q4", "q2", "q1"]
    assert found[-1].likeness > 0.8


def test_another_reference_or_a_check_that_the_evaluation_made_counts_too():
    found = answers.worst(
        record(
            {"answer": "yes", "wanted": "是", "others": ["yes", "ja"], "scores": {"exact_match": 1.0}},
            {"answer": "yes.", "wanted": "是", "others": ["yes!", 7], "exact": False},
            {"answer": "{", "scores": {"json_valid": 0.0, "token_f1": 0.1}},
            {"answer": "{}", "scores": {"json_valid": 1.0}},
        )
    )
    assert [one.prompt for one in found] == ["q2", "q1"]
    assert found[0].scores == {"json_valid": 0.0, "token_f1": 0.1}


def test_where_nothing_was_wanted_empty_and_repeating_answers_are_the_worst():
    found = answers.worst(record({"answer": "a fine answer"}, {"answer": " \n"}, {"answer": "la la la la la la la"}))
    assert [one.prompt for one in found] == ["q1", "q2"]


def test_the_most_changed_are_those_least_like_the_live_versions():
    live = {
        0: {"answer": "same"},
        1: {"answer": "other words"},
        2: {"answer": "床前明月光"},
        3: {"answer": "beg", "cut": True},
    }
    mine = [{"answer": text} for text in ("same", "words other", "x", "begin", "y")]
    found = answers.changed(record(*mine, live=live))
    assert [one.prompt for one in found] == ["q2", "q1"]


def test_two_runs_are_held_against_each_other_by_their_prompts():
    a = record({"answer": "one"}, {"answer": "two"}, {"answer": "three"})
    b = Record(run_named(), RunStatus(), samples=[{**a.samples[2], "answer": "3"}, a.samples[1]])
    found, common = answers.changed_between(a, b)
    assert [(one.prompt, one.answer, one.live) for one in found] == [("q2", "three", "3")]
    assert common == 2


@pytest.mark.parametrize(
    ("a", "b", "least", "most"),
    [
        ("", "", 1, 1),
        ("", "x", 0, 0),
        ("abc", "abc", 1, 1),
        ("a", "b", 0, 0),
        ("abcd", "abce", 0.5, 0.9),
        (" a", "a", 0.9, 0.9999),
    ],
)
def test_likeness_is_1_for_equal_texts_alone(a, b, least, most):
    assert least <= answers.likeness(a, b) <= most
