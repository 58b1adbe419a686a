"""Answers to unseen prompts, held against what their rows say. Libraries are imported where a row asks for them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

import numpy as np

from slipway_trainer.data import answer_rules
from slipway_trainer.data.formats.answer_checks import Checks
from slipway_trainer.evaluation import corpus_scores
from slipway_trainer.evaluation.estimates.observed import Observed
from slipway_trainer.evaluation.text_units import plain, units

DEFINITIONS = {
    "exact_match": "the answer is one of the references after NFKC, folding of case, one space for each run of white "
    "space, none at the ends, and without a full stop at the end",
    "contains": "the units of one of the references, so normalised, stand in the answer one after the other",
    "token_f1": "F1 of the units of answer and reference as bags, so normalised (SQuAD; Rajpurkar et al. 2016); the "
    "best reference counts",
    "rouge_l": "F1 of the longest common subsequence of their units (Lin 2004); the best reference counts",
    "chrf": "chrF2 of the corpus, from 0 to 100 (sacrebleu)",
    "bleu": "BLEU of the corpus, from 0 to 100 (sacrebleu; its tokenizer zh where a reference has a Chinese character, "
    "else 13a)",
    "number_match": "the last number of the answer is as far from a reference, which is a number, as the row's "
    "tolerance at the most, 0 when it has none",
    "regex_match": "the row's pattern (RE2) is found in the answer",
    "json_valid": "the answer is one JSON value; of rows with a schema, and of all where a gate asks for it",
    "json_schema": "the answer is JSON that the row's schema takes",
    "language_match": "the answer has letters, and is in the row's language by py3langid",
    "answer_length": "the characters of the answer, without white space at its ends, are from the row's minLength to "
    "its maxLength",
}
_LONGEST_ANSWER = 1 << 20
"""Characters of an answer that a pattern or a schema is asked about."""


def observed(
    said: Sequence[str], references: Sequence[Sequence[str]], checks: Sequence[Checks], *, all_json: bool = False
) -> dict[str, Observed]:
    """Returns what each metric is made of, answer by answer; metrics of which no row tells anything are left out.

    Args:
        said: the answers.
        references: of each, what it is compared with; empty where the row has none.
        checks: of each, what it has to be like.
        all_json: whether json_valid is asked of every answer.
    """
    scores: dict[str, list[float | None]] = {
        "exact_match": [_best(_same, text, own) for text, own in zip(said, references, strict=True)],
        "contains": [_best(_holds, text, own) for text, own in zip(said, references, strict=True)],
        "token_f1": [_best(token_f1, text, own) for text, own in zip(said, references, strict=True)],
        "rouge_l": [_best(rouge_l, text, own) for text, own in zip(said, references, strict=True)],
        "number_match": [_number(text, own, check) for text, own, check in zip(said, references, checks, strict=True)],
        "regex_match": [_pattern(text, check.pattern) for text, check in zip(said, checks, strict=True)],
        "json_valid": [
            float(parsed(text)[0]) if all_json or check.schema is not None else None
            for text, check in zip(said, checks, strict=True)
        ],
        "json_schema": [_schema(text, check.schema) for text, check in zip(said, checks, strict=True)],
        "language_match": [_language(text, check.language) for text, check in zip(said, checks, strict=True)],
        "answer_length": [_length(text, check) for text, check in zip(said, checks, strict=True)],
    }
    found = {name: share(own) for name, own in scores.items() if any(score is not None for score in own)}
    return found | _of_corpus(said, references)


def share(scores: Sequence[float | None]) -> Observed:
    """Returns scores between 0 and 1 as a metric; None tells nothing."""
    told = [0.0 if score is None else score for score in scores]
    return Observed("Share", np.array(told), np.array([float(score is not None) for score in scores]))


def _of_corpus(said: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, Observed]:
    told = np.array([bool(own) for own in references], bool)
    if not told.any():
        return {}
    answers = [text for text, own in zip(said, references, strict=True) if own]
    wanted = [own for own in references if own]
    found: dict[str, Observed] = {}
    for name, parts, figure, size in (
        ("bleu", corpus_scores.bleu_parts(answers, wanted), corpus_scores.bleu, 1),
        ("chrf", corpus_scores.chrf_parts(answers, wanted), corpus_scores.chrf, 1),
    ):
        every = np.zeros((len(said), parts.shape[1]))
        every[told] = parts
        # Of its reference, in the metric's own units.
        found[name] = Observed("Sums", np.zeros(len(said)), every[:, size], parts=every, figure=figure)
    return found


def _best(score: Callable[[str, str], float], said: str, references: Sequence[str]) -> float | None:
    return max((score(said, one) for one in references), default=None)


def _same(said: str, reference: str) -> float:
    return float(plain(said) == plain(reference))


def _holds(said: str, reference: str) -> float:
    wanted, found = units(plain(reference)), units(plain(said))
    ends = range(len(found) - len(wanted) + 1)
    return float(bool(wanted) and any(found[start : start + len(wanted)] == wanted for start in ends))


def token_f1(said: str, reference: str) -> float:
    """Returns F1 of the units of two texts as bags."""
    found, wanted = units(plain(said)), units(plain(reference))
    return _f1(sum((Counter(found) & Counter(wanted)).values()), len(found), len(wanted))


def rouge_l(said: str, reference: str) -> float:
    """Returns F1 of the longest common subsequence of the units of two texts."""
    from rapidfuzz.distance import LCSseq

    found, wanted = units(plain(said)), units(plain(reference))
    return _f1(LCSseq.similarity(found, wanted), len(found), len(wanted))


def _f1(common: int, found: int, wanted: int) -> float:
    return 2 * common / (found + wanted) if found and wanted else 0.0


def _number(said: str, references: Sequence[str], check: Checks) -> float | None:
    wanted = [number for one in references if (number := answer_rules.only_number(one)) is not None]
    if not wanted:
        return None
    found = answer_rules.number_of(said)
    # As it is written: 0.1 is a tenth.
    tolerance = Decimal(repr(check.tolerance or 0.0))
    return float(found is not None and any(abs(found - one) <= tolerance for one in wanted))


def _pattern(said: str, pattern: str | None) -> float | None:
    if pattern is None:
        return None
    return float(answer_rules.found_in(pattern, said[:_LONGEST_ANSWER]))


def parsed(said: str) -> tuple[bool, Any]:
    """Returns whether an answer is one JSON value, and the value."""

    def refuse(word: str) -> None:
        raise ValueError(f"{word} is no JSON")

    try:
        return True, json.loads(said.strip()[:_LONGEST_ANSWER], parse_constant=refuse)
    except (ValueError, RecursionError):
        return False, None


def _schema(said: str, schema: str | None) -> float | None:
    if schema is None:
        return None
    valid, value = parsed(said)
    if not valid:
        return 0.0
    try:
        return float(answer_rules.validator(schema).is_valid(value))
    except RecursionError:
        return 0.0


def _language(said: str, language: str | None) -> float | None:
    if language is None:
        return None
    letters = any(character.isalpha() for character in said)
    return float(letters and answer_rules.language_of(said[:_LONGEST_ANSWER]) == language.lower())


def _length(said: str, check: Checks) -> float | None:
    if check.minLength is None and check.maxLength is None:
        return None
    length = len(said.strip())
    return float((check.minLength or 0) <= length <= (check.maxLength if check.maxLength is not None else length))
