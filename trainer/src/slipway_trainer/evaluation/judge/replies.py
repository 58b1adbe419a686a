"""What a judge's reply says, read strictly: a verdict that has to be guessed at is none."""

from __future__ import annotations

import json
import re
from typing import Any

from slipway_core.protocol import strict_json
from slipway_trainer.evaluation.judge.questions import Question

_FENCED = re.compile(r"```(?:json)?[ \t]*\n(.*)\n[ \t]*```", re.DOTALL)
_SHOWN = 120
_POINTS = {"A": 1.0, "B": 0.0, "Tie": 0.5}


class Unusable(ValueError):
    """A reply that says no verdict, or one outside the scale."""


def read(question: Question, said: str, scale: int) -> float:
    """Returns what a reply says of the answer that is asked about, from 0 to 1: of a pair 1 where the candidate's wins,
    0.5 for a tie and 0 where it loses; of a mark how far it is from the worst to the best.

    Raises Unusable for anything but one JSON object with a verdict, or a mark on the scale.
    """
    document = _object(said)
    if question.kind == "Pair":
        verdict = document.get("verdict")
        if not isinstance(verdict, str) or verdict not in _POINTS:
            raise Unusable(f"verdict is {_shown(verdict)} and none of A, B and Tie")
        return 1 - _POINTS[verdict] if question.swapped else _POINTS[verdict]
    mark = document.get("mark")
    if isinstance(mark, bool) or not isinstance(mark, int | float) or not 1 <= mark <= scale or mark % 1 != 0:
        raise Unusable(f"mark is {_shown(mark)} and no whole number from 1 to {scale}")
    return (mark - 1) / (scale - 1)


def _object(said: str) -> dict[str, Any]:
    """Returns the one JSON object that a text is, by itself or in a fence of code."""
    text = said.strip()
    if (fenced := _FENCED.fullmatch(text)) is not None:
        text = fenced[1]
    try:
        strict_json.require_strict(text)
        document = json.loads(text)
    except ValueError as error:
        if isinstance(error, json.JSONDecodeError):
            raise Unusable(f"it is no JSON object: {_shown(said)}") from None
        raise Unusable(f"its JSON {error}") from None
    if not isinstance(document, dict):
        raise Unusable(f"it is no JSON object: {_shown(said)}")
    return document


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False) if not isinstance(value, str) else repr(value)
    text = text.encode("utf-8", errors="replace").decode()
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
