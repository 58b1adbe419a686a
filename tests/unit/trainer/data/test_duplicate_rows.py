import random

import numpy as np
import pytest

from slipway_trainer.data import duplicate_rows, row_marks
from slipway_trainer.data.formats.turns import Turn
from slipway_trainer.data.rows import Conversation, Document


def words(count: int, seed: int) -> list[str]:
    rng = random.Random(seed)
    return ["".join(rng.choices("abcdefghijklmnop", k=5)) for _ in range(count)]


def documents(*texts: str) -> row_marks.Marks:
    return row_marks.of_documents([Document(n, text) for n, text in enumerate(texts, 1)], near=True)


def chats(*turns: list[tuple[str, str]]) -> row_marks.Marks:
    rows = [Conversation(n, tuple(Turn(role, said) for role, said in own)) for n, own in enumerate(turns, 1)]
    return row_marks.of_conversations(rows, near=True)


def of(marks: row_marks.Marks) -> list[int]:
    return duplicate_rows.find(marks.keys, marks.sketches).of.tolist()


def exactly(marks: row_marks.Marks) -> list[int]:
    return duplicate_rows.find(marks.keys).of.tolist()


def test_the_first_of_the_same_rows_stays():
    assert exactly(documents("a", "b", "a", "c", "b", "a")) == [-1, -1, 0, -1, 1, 0]


@pytest.mark.parametrize("other", ["if a<b:", "If a>b:", "if a>b: ", "if a>b:\n"])
def test_the_same_is_the_same_to_the_byte(other):
    assert exactly(documents("if a>b:", other)) == [-1, -1]


def test_a_prompt_that_ends_elsewhere_makes_another_row():
    rows = [Document(1, "ab", 0), Document(2, "ab", 1), Document(3, "ab", 1)]
    assert exactly(row_marks.of_documents(rows, near=False)) == [-1, -1, 1]


def test_near_rows_go_and_others_stay():
    text = words(200, 0)
    reworded = text[:90] + words(2, 1) + text[92:]
    rewritten = text[:60] + words(80, 2) + text[140:]
    other = " ".join(words(200, 3))
    # One run of two words takes 6 of 196 grams out, and puts 6 in: 190 of 202 are shared.
    found = documents(" ".join(text), other, ", ".join(reworded).upper(), " ".join(rewritten))
    assert of(found) == [-1, -1, 0, -1]
    assert duplicate_rows.find(found.keys, found.sketches).share[2] == pytest.approx(190 / 202, abs=0.07)


def test_each_row_that_goes_is_like_one_that_stays():
    """A chain: every text is like the one before it, and the last not like the first."""
    text = words(200, 0)
    chain = []
    for n in range(12):
        text = [*text[: n * 8], *words(8, 100 + n), *text[n * 8 + 8 :]]
        chain.append(" ".join(text))
    marks = documents(*chain, chain[5])
    found = duplicate_rows.find(marks.keys, marks.sketches)
    assert marks.sketches is not None
    assert 1 < np.count_nonzero(~found.left_out) < 12
    for row in np.flatnonzero(found.left_out):
        stays = found.of[row]
        assert found.of[stays] == -1
        if found.share[row] < 1:
            agree = (marks.sketches[row, 0] == marks.sketches[stays, 0]).mean()
            assert agree >= duplicate_rows.NEAR_SHARE


def test_questions_about_one_passage_are_not_near_and_neither_are_those_under_one_system_turn():
    page = " ".join(words(400, 0))
    about = chats(
        [("user", f"{page} Who came?"), ("assistant", "Nobody came to the house on that day.")],
        [("user", f"{page} When was it?"), ("assistant", "It was in the year of the great flood.")],
    )
    assert of(about) == [-1, -1]
    system = chats(
        [("system", page), ("user", "Who are you?"), ("assistant", "I am an assistant of the company.")],
        [("system", page), ("user", "Tell me a story"), ("assistant", "Once there was a king in a far land.")],
    )
    assert of(system) == [-1, -1]


def test_conversations_that_say_the_same_under_other_punctuation_are_near():
    long = " ".join(words(50, 1))
    found = chats(
        [("user", "Who are you?"), ("assistant", long)],
        [("system", "be kind"), ("user", "who are you"), ("assistant", f"{long}!")],
    )
    assert (of(found), exactly(found)) == ([-1, 0], [-1, -1])


@pytest.mark.parametrize("index", [0.8, 0.9])
def test_most_pairs_at_the_threshold_are_looked_at_and_nearly_all_above_it_go(index):
    count = 300
    rng = np.random.default_rng(0)
    common = rng.random((count, 1, row_marks.PERMUTATIONS)) < index
    first = rng.integers(0, 256, (count, 1, row_marks.PERMUTATIONS), np.uint8)
    second = np.where(common, first, rng.integers(0, 256, first.shape, np.uint8))
    sketches = np.concatenate([first, second])
    gone = duplicate_rows.find(np.arange(2 * count, dtype=np.uint64), sketches).left_out
    assert not gone[:count].any()
    assert gone[count:].mean() >= (0.4 if index == 0.8 else 0.98)
