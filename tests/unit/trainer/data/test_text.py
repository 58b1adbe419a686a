import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway_trainer.data.text import comparable, fault, units

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)


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


@given(st.text(st.characters(max_codepoint=127)))
def test_plain_ascii_has_the_units_that_any_text_has(text):
    assert units(text) == (units(text + " é")[:-1] or ["".join(text.split())])
