"""Held-out text in the training data is found (invariant C), and other text is not."""

import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway_trainer.data.overlap import Index, Passage
from slipway_trainer.data.text import units

POEM = "《夜思》\n李白\n床前明月光，疑是地上霜。\n举头望明月，低头思故乡。"
OTHER_POEM = "《春晓》\n孟浩然\n春眠不觉晓，处处闻啼鸟。\n夜来风雨声，花落知多少。"
ENGLISH = (
    "It was the best of times, it was the worst of times, it was the age of wisdom, it was the age of foolishness, "
    "it was the epoch of belief, it was the epoch of incredulity, it was the season of Light"
)
OTHER_ENGLISH = (
    "Call me Ishmael. Some years ago, never mind how long precisely, having little or no money in my purse, and "
    "nothing particular to interest me on shore, I thought I would sail about a little"
)


def rules(held: str, text: str, *, whole=True, holder=True) -> list[str]:
    return [match.rule for match in Index([held]).find([Passage(1, units(text), whole, holder)]).matches]


@pytest.mark.parametrize("text", [POEM, OTHER_POEM, ENGLISH, "Yes.", "好", "!?"])
def test_equal_documents_are_found_however_short(text):
    assert rules(text, text) == ["equal"]


@pytest.mark.parametrize(
    ("held", "text"),
    [
        (POEM, POEM.replace("\n", "").replace("，", " ").replace("。", "!")),
        (ENGLISH, ENGLISH.upper().replace(",", "")),
        ("full width 12", "ＦＵＬＬ　ｗｉｄｔｈ、１２"),
        (POEM, " ".join(POEM)),
    ],
)
def test_case_width_white_space_and_punctuation_hide_nothing(held, text):
    assert rules(held, text) == ["equal"]


@pytest.mark.parametrize(
    ("held", "text"),
    [
        (POEM, POEM.replace("床前明月光", "床前看月光").replace("举头", "抬头")),
        (ENGLISH, ENGLISH.replace("worst", "hardest").replace("belief", "faith")),
        ("The quick brown fox jumps over the lazy dog", "The quick brown fox jumped over the lazy dog."),
        ("春眠不觉晓，处处闻啼鸟。", "春眠不觉晓，到处闻啼鸟。"),
    ],
)
def test_a_document_with_a_few_words_changed_is_found(held, text):
    assert rules(held, text) in (["contained"], ["similar"])


@pytest.mark.parametrize(
    "held", [POEM, ENGLISH, "春眠不觉晓，处处闻啼鸟。", "The quick brown fox jumps over the lazy dog"]
)
def test_a_document_inside_a_longer_one_is_found(held):
    around = OTHER_ENGLISH + OTHER_POEM
    assert rules(held, f"{around}\n{held}\n{around}" * 3) == ["contained"]


def test_half_of_a_document_inside_a_longer_one_is_found():
    assert rules(ENGLISH, OTHER_ENGLISH + " " + ENGLISH[: len(ENGLISH) * 2 // 3]) == ["contained"]


def test_a_training_document_that_is_a_part_of_a_held_out_one_is_found():
    book = " ".join(f"{word}{n}" for n in range(40) for word in ("alpha", "beta", "gamma", "delta"))
    chapter = f"{OTHER_ENGLISH} and see the watery part of the world."
    assert rules(f"{book} {chapter} {book[::-1]}", chapter) == ["part"]


@pytest.mark.parametrize(
    ("held", "text"),
    [
        (POEM, OTHER_POEM),
        (ENGLISH, OTHER_ENGLISH),
        ("Thank you very much", "He said: thank you very much indeed, and left the house without another word."),
        ("Yes.", "Yes, and no."),
        ("The capital of France is Paris.", "The capital of Spain is Madrid."),
        ("背诵李白的《夜思》", "背诵李白的《月下独酌》"),
        (OTHER_ENGLISH, "Some years ago, never mind how long precisely, there was a king who had three daughters, and "
         "the youngest of them was so fair that the sun himself was astonished"),
    ],
)  # fmt: skip
def test_other_documents_on_the_same_subject_are_not_refused(held, text):
    assert rules(held, text) == []


def test_two_hundred_poems_do_not_accuse_each_other():
    rng = random.Random(0)
    characters = [chr(0x4E00 + n) for n in range(400)]
    poems = ["".join(rng.choices(characters, k=24)) for _ in range(400)]
    found = Index(poems[:200]).find([Passage(n, units(poem), True, True) for n, poem in enumerate(poems)]).matches
    assert [(match.held, match.line) for match in found] == [(n, n) for n in range(200)]


def test_a_turn_may_be_equal_and_a_conversation_may_contain_but_not_the_other_way():
    assert rules(POEM, POEM, whole=True, holder=False) == ["equal"]
    assert rules(POEM, POEM, whole=False, holder=True) == ["contained"]
    assert rules(POEM, POEM, whole=False, holder=False) == []


words = st.lists(st.sampled_from([f"w{n}" for n in range(300)]), min_size=8, max_size=60)


@given(words, words, words)
def test_any_document_of_eight_words_is_found_in_any_other(held, before, after):
    assert rules(" ".join(held), " ".join([*before, *held, *after]))


@given(words, words, words)
def test_what_is_found_does_not_depend_on_what_else_is_looked_for(held, other, text):
    joined, passages = " ".join(held), [Passage(3, text + held[: len(held) * 3 // 4], True, True)]
    alone = Index([joined]).find(passages).matches
    among = Index([" ".join(other), joined]).find(passages).matches
    assert [(m.rule, m.share) for m in among if m.held == 1] == [(m.rule, m.share) for m in alone]


def test_boilerplate_that_every_document_has_is_no_overlap():
    header = "Licensed under the terms of the licence that comes with this file and no other terms at all. "
    held = [header + f"{ENGLISH[n:]} {n}" for n in range(0, 50, 10)]
    text = header + OTHER_ENGLISH
    assert Index(held).find([Passage(1, units(text), True, True)]).matches == []


@pytest.mark.parametrize(("share", "expected"), [(0.02, 1.0), (0.05, 1.0), (0.07, 1.0), (0.13, 0.5), (0.2, 0.0)])
def test_the_error_that_is_documented_is_the_error_that_is_measured(share, expected):
    rng = random.Random(1)
    vocabulary = [f"w{n}" for n in range(5000)]
    held = [rng.choices(vocabulary, k=300) for _ in range(50)]
    changed = [[rng.choice(vocabulary) if rng.random() < share else unit for unit in text] for text in held]
    found = (
        Index([" ".join(text) for text in held])
        .find([Passage(n, t, True, True) for n, t in enumerate(changed)])
        .matches
    )
    assert len(found) / 50 == pytest.approx(expected, abs=0.25 if expected == 0.5 else 0.0)


def test_a_hundred_thousand_documents_are_searched_in_seconds():
    rng = random.Random(2)
    vocabulary = [f"w{n}" for n in range(20000)]
    documents = [rng.choices(vocabulary, k=60) for _ in range(5000)]
    index = Index([" ".join(text) for text in documents[:500]])
    started = time.process_time()
    found = index.find([Passage(n, text, True, True) for n, text in enumerate(documents)]).matches
    # Measured: 0.2 s for these 5,000.
    assert time.process_time() - started < 2
    assert [match.held for match in found] == list(range(500))
