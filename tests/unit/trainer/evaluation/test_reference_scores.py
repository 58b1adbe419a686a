"""What an answer scores against what its row says."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest

from slipway_trainer.bounds import intervals
from slipway_trainer.data import answer_rules
from slipway_trainer.data.formats.answer_checks import Checks
from slipway_trainer.evaluation import corpus_scores, reference_scores
from slipway_trainer.evaluation.text_units import plain


def score(metric: str, said: str, *references: str, all_json: bool = False, **checks: object) -> float | None:
    found = reference_scores.observed([said], [references], [Checks(**checks)], all_json=all_json)  # type: ignore[arg-type]
    return found[metric].value if metric in found else None


@pytest.mark.parametrize(
    ("metric", "said", "references", "expected"),
    [
        ("exact_match", " Paris.\n", ["paris"], 1),
        ("exact_match", "ＰＡＲＩＳ", ["Rome", "paris"], 1),
        ("exact_match", "-4", ["4"], 0),
        ("exact_match", "北京。", ["北京"], 1),
        ("contains", "It is in Paris, France.", ["paris"], 1),
        ("contains", "It is 14", ["4"], 0),
        ("contains", "床前\n明月光", ["前明月"], 1),
        ("token_f1", "the cat sat", ["the cat"], 0.8),
        ("rouge_l", "a b c d", ["a x c d e"], 6 / 9),
        ("rouge_l", "", ["a"], 0),
        ("number_match", "17 + 25 makes 42.", ["42"], 1),
        ("number_match", "about 1,234.50", ["1234.5"], 1),
        ("number_match", "no idea", ["42"], 0),
        ("number_match", "42", ["forty-two"], None),
    ],
)
def test_an_answer_is_held_against_its_references(
    metric: str, said: str, references: list[str], expected: float | None
) -> None:
    assert score(metric, said, *references) == pytest.approx(expected)


SCHEMA = json.dumps({"type": "object", "required": ["a"], "properties": {"a": {"type": "string", "pattern": "^x+$"}}})


@pytest.mark.parametrize(
    ("metric", "said", "checks", "expected"),
    [
        ("number_match", "0.31", {"tolerance": 0.01}, 1),
        ("number_match", "0.312", {"tolerance": 0.01}, 0),
        ("regex_match", "a cat.", {"pattern": r"\bcat\b"}, 1),
        ("regex_match", "concatenate", {"pattern": r"\bcat\b"}, 0),
        ("json_schema", ' {"a": "xx"} ', {"schema": SCHEMA}, 1),
        ("json_schema", '{"a": "y"}', {"schema": SCHEMA}, 0),
        ("json_schema", '{"a": ', {"schema": SCHEMA}, 0),
        ("json_valid", "[1]", {"schema": SCHEMA}, 1),
        ("json_valid", "NaN", {"schema": SCHEMA}, 0),
        ("json_valid", "[" * 100_000, {"schema": SCHEMA}, 0),
        ("json_valid", "[1]", {}, None),
        ("answer_length", " abc ", {"minLength": 3, "maxLength": 3}, 1),
        ("answer_length", "abcd", {"maxLength": 3}, 0),
        ("answer_length", "ab", {"minLength": 3}, 0),
    ],
)
def test_an_answer_is_held_against_what_its_row_asks_of_it(
    metric: str, said: str, checks: dict[str, object], expected: float | None
) -> None:
    assert score(metric, said, "0.3", **checks) == expected


def test_json_is_asked_of_every_answer_where_a_gate_asks() -> None:
    assert score("json_valid", "[1]", all_json=True) == 1


@pytest.mark.parametrize(
    ("said", "language", "expected"),
    [("你好，世界", "zh", 1), ("It is raining today.", "en", 1), ("It is raining today.", "zh", 0), ("42", "en", 0)],
)
def test_a_language_is_told_without_a_network(said: str, language: str, expected: float) -> None:
    assert score("language_match", said, language=language) == expected


def test_a_pattern_that_would_take_years_takes_none() -> None:
    """RE2 takes time in proportion to the text; also the patterns of a schema."""
    evil, text = "^(a+)+$", "a" * 50_000 + "b"
    started = time.process_time()
    assert score("regex_match", text, pattern=evil) == 0
    schema = json.dumps({"pattern": evil, "patternProperties": {evil: {}}})
    assert score("json_schema", json.dumps(text), schema=schema) == 0
    schema = json.dumps({"patternProperties": {evil: {}}, "additionalProperties": False})
    assert score("json_schema", json.dumps({text: 1}), schema=schema) == 0
    assert score("json_schema", json.dumps({"a": 1}), schema=schema) == 1
    assert time.process_time() - started < 5


DRAFTS = "http://json-schema.org"


@pytest.mark.parametrize(
    ("schema", "problem"),
    [
        ({"type": "objekt"}, "no JSON schema"),
        ({"pattern": "(?=a)"}, "RE2 cannot read it"),
        ({"$ref": "http://example.org/x.json"}, "nothing is fetched"),
        ({"$dynamicRef": "http://example.org/x.json"}, "nothing is fetched"),
        ({"$ref": "#/$defs/name", "$defs": {"names": {}}}, "#/\\$defs/name, and there is no such place"),
        ({"items": {"$ref": "#/other"}, "other": {"$ref": "#/allOf/x"}, "allOf": [True]}, "#/allOf/x, and there is no"),
        ({"$defs": {"x": {"$id": "http://e.org/b", "$ref": "#y"}}}, "#y, and there is no such place"),
        ({"$ref": "#/enum", "enum": [1]}, "which is no schema"),
        ({"$schema": ["x"]}, "\\$schema must be a text"),
        ({"patternProperties": {"^(a+)+$": {}}, "unevaluatedProperties": False}, "additionalProperties"),
        ({"$ref": "#"}, "it comes back to itself without end, by #: the same value"),
        ({"allOf": [{"$ref": "#"}]}, "without end, by #"),
        ({"dependentSchemas": {"a": {"$ref": "#"}}}, "without end, by #"),
        ({"if": True, "then": {"not": {"$ref": "#"}}}, "without end, by #"),
        ({"properties": {"a": {"$ref": "#/properties/a"}}}, "without end, by #/properties/a"),
        ({"$dynamicAnchor": "n", "$dynamicRef": "#n"}, "without end, by #n"),
        ({"$schema": f"{DRAFTS}/draft-07/schema#", "dependencies": {"a": {"$ref": "#"}}}, "without end, by #"),
        ({"$schema": "https://json-schema.org/draft/2019-09/schema", "$recursiveRef": "#"}, "without end, by #"),
        (
            {
                "items": {"$ref": "#/$defs/a"},
                "$defs": {"a": {"anyOf": [{"$ref": "#/$defs/b"}]}, "b": {"$ref": "#/$defs/a"}},
            },
            "without end, by #/\\$defs/",
        ),
    ],
)
def test_a_schema_that_cannot_be_used_says_why(schema: object, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        answer_rules.validator(json.dumps(schema))


TREE = {"properties": {"name": {"type": "string"}, "children": {"items": {"$ref": "#"}}}, "required": ["name"]}


@pytest.mark.parametrize(
    ("schema", "said", "expected"),
    [
        ({"multipleOf": 0.5}, "1" + "0" * 400, 1),
        ({"multipleOf": 0.01}, "1e999", 0),
        ({"multipleOf": 0.1}, "0.3", 1),
        ({"multipleOf": 0.1}, "0.35", 0),
        ({"properties": {"name": {"pattern": "^a"}}}, r'{"name": "\ud83d"}', 0),
        ({"patternProperties": {"^.$": {"type": "string"}}}, r'{"\ud83d": 1}', 0),
        ({"pattern": r"^\p{Han}+$"}, '"床前"', 1),
        ({"properties": {"a": {}}, "additionalProperties": {"type": "string"}}, '{"a": 1, "b": "x"}', 1),
        ({"properties": {"a": {}}, "additionalProperties": {"type": "string"}}, '{"a": 1, "b": 2}', 0),
        ({"$defs": {"x": {"$anchor": "y", "type": "integer"}}, "items": {"$ref": "#y"}}, "[1]", 1),
        ({"enum": [{"$ref": "http://e.org/"}]}, "1", 0),
        (TREE, '{"name": "a", "children": [{"name": "b", "children": []}, {"name": "c"}]}', 1),
        (TREE, '{"name": "a", "children": [{"name": "b", "children": [{"name": 3}]}]}', 0),
        ({"$schema": f"{DRAFTS}/draft-07/schema#", "$ref": "#/x", "allOf": [{"$ref": "#"}], "x": True}, "1", 1),
    ],
)
def test_no_answer_ends_the_evaluation(schema: object, said: str, expected: float) -> None:
    """A model may say anything: numbers that no float holds, and half of a surrogate pair."""
    answer_rules.validator(json.dumps(schema))
    assert score("json_schema", said, schema=json.dumps(schema)) == expected


SAID = ["the cat sat on the mat today", "床前明月光，疑是地上霜", "a b", "x y z w", "It is a dog and so on"]
WANTED = [
    ["the cat sat on a mat", "a cat sat"],
    ["床前明月光，疑是地上霜。"],
    ["a b c d e"],
    ["q"],
    ["It is a dog, and so on."],
]


def test_bleu_and_chrf_are_those_of_sacrebleu() -> None:
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF

    references = [[own[min(n, len(own) - 1)] for own in WANTED] for n in range(2)]
    chrf, _ = corpus_scores.chrf(corpus_scores.chrf_parts(SAID, WANTED).sum(0))
    assert float(chrf) == pytest.approx(CHRF().corpus_score(SAID, references).score, abs=1e-9)
    for said, wanted, tokenizer in (
        (SAID[:1] + SAID[2:], WANTED[:1] + WANTED[2:], "13a"),
        (SAID[1:2], WANTED[1:2], "zh"),
    ):
        own = [[one[min(n, len(one) - 1)] for one in wanted] for n in range(2)]
        bleu, _ = corpus_scores.bleu(corpus_scores.bleu_parts(said, wanted).sum(0))
        assert float(bleu) == pytest.approx(BLEU(tokenize=tokenizer).corpus_score(said, own).score, abs=1e-9)


@pytest.mark.parametrize("name", ["bleu", "chrf"])
def test_the_slopes_of_a_corpus_figure_are_how_it_grows(name: str) -> None:
    figure, parts = getattr(corpus_scores, name), getattr(corpus_scores, f"{name}_parts")(SAID, WANTED)
    sums = parts.sum(0)
    _, slopes = figure(sums)
    for place in np.flatnonzero(sums):
        step = np.zeros_like(sums)
        step[place] = 1e-4
        grown = (figure(sums + step)[0] - figure(sums - step)[0]) / 2e-4
        assert slopes[place] == pytest.approx(float(grown), rel=1e-4, abs=1e-6)
    assert float((slopes * sums).sum()) == pytest.approx(0, abs=1e-9)


def test_ours_are_rouge_score_of_english() -> None:
    from rouge_score.rouge_scorer import RougeScorer

    for said, wanted in (("the cat sat on the mat", "a cat sat upon the mat there"), ("b a c", "a b c")):
        theirs = RougeScorer(["rougeL"]).score(wanted, said)["rougeL"].fmeasure
        assert reference_scores.rouge_l(said, wanted) == pytest.approx(theirs)


def corpus(random: np.random.Generator, clusters: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the sums of chrF of clusters whose lengths and quality differ."""
    size = np.maximum(20, random.lognormal(4, 0.6, clusters)).round()
    quality = random.beta(4, 4, clusters)
    parts = np.zeros((clusters, 18))
    for order in range(6):
        every = size - order
        parts[:, 3 * order] = parts[:, 3 * order + 1] = every
        parts[:, 3 * order + 2] = random.binomial(every.astype(int), quality ** (1 + order / 2))
    return parts, size


@pytest.mark.slow
@pytest.mark.parametrize("clusters", [10, 40])
def test_C_a_corpus_figure_at_the_boundary_is_rarely_judged_wrongly(clusters: int) -> None:
    """500 verdicts of which 5 % may be wrong have a standard error of 1 %: 7.9 % is three above it."""
    random = np.random.default_rng(0)
    truth = float(corpus_scores.chrf(corpus(random, 400_000)[0].sum(0))[0])
    found = [intervals.of_sums(*corpus(random, clusters), corpus_scores.chrf, 0.95) for _ in range(500)]
    assert np.mean([one.upper <= truth for one in found]) <= 0.079
    assert np.mean([one.lower > truth for one in found]) <= 0.079


def test_a_corpus_that_is_all_right_is_not_certain() -> None:
    parts = corpus_scores.chrf_parts(["the very same"] * 10, [["the very same"]] * 10)
    found = intervals.of_sums(parts, parts[:, 1], corpus_scores.chrf, 0.95)
    assert found.value == pytest.approx(100)
    assert 60 < found.lower < 95


def test_answers_are_the_same_in_a_stated_form() -> None:
    assert plain("  Ａ\n b。 ") == "a b"
    assert plain("...") == "..."
