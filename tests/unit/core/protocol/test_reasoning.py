"""An answer is split into what it thinks and what it says, the same however it comes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway_core.protocol.reasoning import Parts, Reasoning, Splitter, split

THINK = Reasoning(start="<think>", end="</think>")
CHANNELS = Reasoning(
    start="<|channel|>analysis<|message|>",
    end="<|end|><|start|>assistant<|channel|>final<|message|>",
    plain="<|channel|>final<|message|>",
)


@pytest.mark.parametrize(
    ("text", "opened", "parts"),
    [
        ("<think>\nIt is his.\n</think>\n\nLi Bai.", False, Parts("It is his.", "Li Bai.")),
        ("<think>\n\n</think>\n\nLi Bai.", False, Parts("", "Li Bai.")),
        ("It is his.\n</think>\n\nLi Bai.", True, Parts("It is his.", "Li Bai.")),
        ("<think>\nIt is his.\n</think>\nLi Bai.", True, Parts("It is his.", "Li Bai.")),
        ("\n</think>\n\nLi Bai.", True, Parts("", "Li Bai.")),
        ("Li Bai. ", False, Parts("", "Li Bai. ")),
        ("  Li Bai.", False, Parts("", "  Li Bai.")),
        ("Write <think> first.", False, Parts("", "Write <think> first.")),
        ("Li Bai.</think>Du Fu.", False, Parts("", "Li Bai.</think>Du Fu.")),
        ("<think>a</think>b</think>c", False, Parts("a", "b</think>c")),
        ("<think>\nIt is", False, Parts("It is", "")),
        ("It is </th", True, Parts("It is </th", "")),
        ("It is", True, Parts("It is", "")),
        ("<thi", False, Parts("", "<thi")),
        ("", False, Parts()),
    ],
)
def test_what_it_thinks_is_apart_from_what_it_says(text, opened, parts):
    assert split(text, THINK, opened=opened) == parts


def test_channels_are_split_too_and_an_answer_without_reasoning_loses_its_mark():
    said = f"{CHANNELS.start}It is his.{CHANNELS.end}Li Bai."
    assert split(said, CHANNELS) == Parts("It is his.", "Li Bai.")
    assert split(f"{CHANNELS.plain}Li Bai.", CHANNELS) == Parts("", "Li Bai.")


def test_a_model_that_marks_no_reasoning_says_all_of_it():
    assert split("<think>a</think>b", None) == Parts("", "<think>a</think>b")


@given(
    st.lists(st.sampled_from(["<think>", "</think>", "<thi", "</", "nk>", " ", "\n", "a", "b c"]), max_size=12),
    st.booleans(),
    st.data(),
)
def test_the_parts_are_the_same_however_an_answer_is_cut(words, opened, data):
    text = "".join(words)
    splitter, reasoning, answer = Splitter(THINK, opened=opened), "", ""
    while text:
        size = data.draw(st.integers(1, len(text)))
        piece, text = text[:size], text[size:]
        found = splitter.feed(piece)
        reasoning, answer = reasoning + found.reasoning, answer + found.answer
    last = splitter.finish()
    assert Parts(reasoning + last.reasoning, answer + last.answer) == split("".join(words), THINK, opened=opened)


@pytest.mark.parametrize("text", ["<a><think>\nso\n</think>\n\nyes", "<a>yes", "<a> <think>", "<a>", "<a><thi", "yes"])
@pytest.mark.parametrize("opened", [False, True])
def test_a_mark_that_begins_as_another_is_not_taken_for_it_while_more_may_come(text, opened):
    marks = Reasoning(start="<a><think>", end="</think>", plain="<a>")
    for cut in range(len(text) + 1):
        splitter = Splitter(marks, opened=opened)
        parts = [splitter.feed(text[:cut]), splitter.feed(text[cut:]), splitter.finish()]
        found = Parts("".join(part.reasoning for part in parts), "".join(part.answer for part in parts))
        assert found == split(text, marks, opened=opened)


@pytest.mark.parametrize(
    ("prompt", "opened", "closed"),
    [
        ("<|im_start|>assistant\n", False, False),
        ("<|im_start|>assistant\n<think>\n", True, False),
        ("<|im_start|>assistant\n<think>\n\n</think>\n\n", False, True),
    ],
)
def test_a_prompt_says_whether_it_ends_within_the_reasoning(prompt, opened, closed):
    assert (THINK.opened(prompt), THINK.closed(prompt)) == (opened, closed)
