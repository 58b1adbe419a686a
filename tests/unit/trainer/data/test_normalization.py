import pytest

from slipway_trainer.data import normalization
from slipway_trainer.data.formats.turns import ToolCall, Turn
from slipway_trainer.data.text import comparable

ALL = normalization.in_order(["Strip", "LineEnds", "NFC"])
CASES = {
    "NFC": ("cafe\u0301 ①", "café ①"),
    "LineEnds": ("a\r\nb\rc\n", "a\nb\nc\n"),
    "Strip": (" \u3000a b\r\n", "a b"),
}


@pytest.mark.parametrize("form", CASES)
def test_each_form_does_its_own_alone(form):
    given, wanted = CASES[form]
    assert normalization.text("", given, [form]) == ("", wanted)
    changed = set()
    assert normalization.text("", wanted, [form], changed) == ("", wanted)
    assert changed == set()


@pytest.mark.parametrize("given", [given for given, _ in CASES.values()])
def test_what_is_compared_is_the_same_before_and_after(given):
    assert comparable("".join(normalization.text("", given, ALL))) == comparable(given)


@pytest.mark.parametrize(
    ("prompt", "completion", "wanted"),
    [("  a ", " b ", ("a ", " b")), ("  ", " b ", ("", "b")), ("", " b", ("", "b")), ("a\n", "\nb\n", ("a\n", "\nb"))],
)
def test_strip_leaves_what_stands_between_a_prompt_and_its_completion(prompt, completion, wanted):
    assert normalization.text(prompt, completion, ["Strip"]) == wanted


def test_of_a_turn_what_is_said_is_normalized_and_what_is_called_is_not():
    call = ToolCall("find", '{"text": " cafe\u0301\\r\\n"}')
    turn = Turn("assistant", " a\r\n", reasoning="cafe\u0301", tool_calls=(call,))
    changed = set()
    assert normalization.turn(turn, ALL, changed) == Turn("assistant", "a", reasoning="café", tool_calls=(call,))
    assert changed == set(ALL)
