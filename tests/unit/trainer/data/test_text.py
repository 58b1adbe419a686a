import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway_trainer.data.text import comparable, fault, normalised, units

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("  a  \n", "a"),
        ("\ufeffa", "a"),
        ("a\r\nb\rc", "a\nb\nc"),
        ("cafe\u0301", "café"),
        ("def f():\n    if x:\n\treturn 1\n", "def f():\n    if x:\n\treturn 1"),
        ("a  b \n\n\n c", "a  b \n\n\n c"),
        ("　床前明月光，\n", "床前明月光，"),
        ("１ﬁ№", "１ﬁ№"),
    ],
)
def test_what_is_learned_reads_as_it_did(raw, expected):
    assert normalised(raw) == expected


@given(texts)
def test_a_normalised_text_stays_as_it_is(text):
    assert normalised(normalised(text)) == normalised(text)


@given(texts)
def test_nothing_visible_is_lost(text):
    def visible(s):
        return "".join(unicodedata.normalize("NFC", s.removeprefix("\ufeff")).split())

    assert visible(normalised(text)) == visible(text)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("Hello, World!", "hello   world"),
        ("ＦＵＬＬ ｗｉｄｔｈ １２", "full width 12"),
        ("床前明月光，疑是地上霜。", "床 前 明 月 光 疑 是 地 上 霜"),
        ("Straße", "STRASSE"),
        ("it's", "it s"),
        ("cafe\u0301", "café"),
    ],
)
def test_texts_that_say_the_same_compare_equal(first, second):
    assert comparable(first) == comparable(second)


def test_units_are_words_and_single_characters_of_chinese():
    assert units("背诵《夜思》, Hello 2 worlds!") == ["背", "诵", "夜", "思", "hello", "2", "worlds"]


def test_a_text_of_signs_alone_is_compared_as_it_is():
    assert comparable(" !? ") == "!?"
    assert comparable("!?") != comparable("?!")


@pytest.mark.parametrize(
    ("text", "problem"),
    [("ab\0c", "a NUL character at character 3"), ("a\ud800", r"a lone surrogate (\ud800) at character 2")],
)
def test_what_no_text_may_hold_is_named_with_its_place(text, problem):
    assert problem in (fault(text) or "")


@given(texts.map(lambda text: text.replace("\0", "")))
def test_any_other_text_has_no_fault(text):
    assert fault(text) is None
