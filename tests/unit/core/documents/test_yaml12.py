import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway_core.documents import yaml12
from slipway_core.documents.yaml12 import YamlError


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2e-4", 2e-4),
        ("2E+3", 2000),
        (".5", 0.5),
        ("1.", 1),
        ("-7", -7),
        ("0x1f", 31),
        ("0", 0),
        ("true", True),
        ("False", False),
        ("~", None),
        ("null", None),
        ("2026-11-25", "2026-11-25"),
        ("12:30:45", "12:30:45"),
        ("1h30m", "1h30m"),
        ("hf://a/b", "hf://a/b"),
        ('"3"', "3"),
        ("'yes'", "yes"),
        ("!!str 3", "3"),
        ("[1, {a: b}]", [1, {"a": "b"}]),
        ("系统", "系统"),
    ],
)
def test_a_value_is_what_yaml_1_2_and_kubectl_both_read(text, value):
    found = yaml12.scalar(text)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    "text", ["yes", "No", "on", "OFF", "y", "0123", "0o17", "0b11", "1_000", "-0x1f", "0X1F", "3.5_0"]
)
def test_what_kubectl_reads_differently_is_refused(text):
    with pytest.raises(YamlError, match=text):
        yaml12.scalar(text)
    assert yaml12.scalar(f'"{text}"') == text


@pytest.mark.parametrize(
    "text", [".nan", "-.inf", "1e999", "9223372036854775808", '"\\ud800"', '"\\0"', "!!python/object:os.x 1", "!!int 3"]
)
def test_what_no_json_document_can_hold_is_refused(text):
    with pytest.raises(YamlError):
        yaml12.scalar(text)


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("", None, "empty"),
        ("# only a comment\n", None, "empty"),
        ("a: 1\n---\nb: 2\n", 3, "more than one document"),
        ("a: 1\nb: c: d\n", 2, "mapping values"),
        ("a:\n\t- 1\n", 2, "tabs"),
        ("a: [1,\n", 2, "expected"),
        ("a: *missing\n", 1, "alias"),
        ("a: &x\n  b: *x\n", 2, "holds itself"),
        ("[a]: 1\n", 1, "key must be a text"),
        ("[" * 100 + "]" * 100, 1, "nested too deeply"),
        ("x" * (yaml12.SIZE_LIMIT + 1), None, "data"),
    ],
)
def test_a_text_that_is_no_document_is_refused_with_its_line(text, line, words):
    with pytest.raises(YamlError) as caught:
        yaml12.read(text)
    assert words in f"{caught.value.message} {caught.value.fix}"
    assert caught.value.line == line


def test_aliases_that_stand_for_billions_of_values_are_refused():
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    with pytest.raises(YamlError, match="100000"):
        yaml12.read("\n".join(lines))


def test_a_key_that_stands_twice_is_refused_with_both_lines():
    document = yaml12.read("a: 1\nb:\n  c: 1\n  c: 2\n")
    [error] = document.errors
    assert (error.path, error.line) == (("b", "c"), 4)
    assert "line 3" in error.fix
    assert document.value == {"a": 1, "b": {"c": 1}}


def test_merged_mappings_give_way_to_own_keys():
    document = yaml12.read("base: &base {a: 1, b: 2}\nx:\n  <<: *base\n  b: 3\n")
    assert document.value["x"] == {"a": 1, "b": 3}


def test_lines_are_those_of_the_keys():
    document = yaml12.read("a: 1\nb:\n- c: 2\n- d:\n    e: 3\n")
    assert document.lines[("b",)] == 2
    assert document.lines[("b", 0, "c")] == 3
    assert document.lines[("b", 1, "d", "e")] == 5


_text = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
# YAML ends a key on one line at 1024 characters, escapes counted.
_key = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=40)
_json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(-9e18, 9e18) | _text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_key, inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(_key, _json, max_size=4))
def test_json_is_read_as_it_is(value):
    document = yaml12.read(json.dumps(value))
    assert document.errors == []
    assert document.value == value
    assert _types(document.value) == _types(value)


def _types(value):
    if isinstance(value, dict):
        return {key: _types(inner) for key, inner in value.items()}
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e21:
        return int
    return [_types(inner) for inner in value] if isinstance(value, list) else type(value)


@given(st.text())
def test_any_text_is_read_or_refused_and_never_crashes(text):
    try:
        document = yaml12.read(text)
    except YamlError:
        return
    assert not (isinstance(document.value, float) and not math.isfinite(document.value))
