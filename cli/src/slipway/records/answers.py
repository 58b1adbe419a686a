"""Which answers are worth a look: the worst ones, and those that differ most from the live version's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from slipway.records.record import Record, numbers

MOST = 5
_COMPARED = 4000
"""Characters that are compared of a text."""


@dataclass(frozen=True)
class Shown:
    """One prompt with what was answered."""

    number: int
    """Line of samples.jsonl, from 1 on."""
    prompt: str
    answer: str
    wanted: str | None = None
    live: str | None = None
    live_cut: bool = False
    """Whether the record of the live version's answer ends before it did."""
    finish: str = ""
    likeness: float = 0.0
    """From 0 to 1: to what was wanted, or to the live version's answer."""
    slice: str | None = None
    scores: Mapping[str, float] = field(default_factory=dict[str, float])
    """What the evaluation scored it with, by metric."""


def worst(record: Record, most: int = MOST) -> list[Shown]:
    """Returns the answers that are least like what was wanted or fail a check, the worst first. Where nothing was
    wanted, those that are empty or repeat themselves."""
    shown = [_shown(record, number) for number in range(len(record.samples))]
    judged = [(_badness(record.samples[one.number - 1], one), one) for one in shown]
    bad = sorted((pair for pair in judged if pair[0] > 0), key=lambda pair: -pair[0])
    return [_with(one, 1 - badness) for badness, one in bad[:most]]


def changed(record: Record, most: int = MOST) -> list[Shown]:
    """Returns the answers that are least like the live version's, the most changed first."""
    shown = [_shown(record, number) for number in range(len(record.samples))]
    pairs = [(likeness(one.answer, one.live, one.live_cut), one) for one in shown if one.live is not None]
    return [_with(one, alike) for alike, one in sorted(pairs, key=lambda pair: pair[0]) if alike < 1][:most]


def changed_between(a: Record, b: Record, most: int = MOST) -> tuple[list[Shown], int]:
    """Returns the answers of one run that are least like another's to the same prompt (as `live`), and how many prompts
    both answered."""
    theirs = {_prompt(sample): _text(sample, "answer") for sample in b.samples}
    both = [one for number in range(len(a.samples)) if (one := _shown(a, number)).prompt in theirs]
    pairs = [(likeness(one.answer, theirs[one.prompt]), one) for one in both]
    kept = sorted((pair for pair in pairs if pair[0] < 1), key=lambda pair: pair[0])[:most]
    return [_with(one, alike, live=theirs[one.prompt]) for alike, one in kept], len(both)


def likeness(a: str, b: str | None, cut: bool = False) -> float:
    """Returns how alike two texts are, from 0 to 1: Dice's coefficient of their pairs of characters, each as often as
    it stands there (Dice 1945). Only equal texts have 1.

    Args:
        cut: the second is the beginning of a longer one; as much of the first is compared.
    """
    if b is None:
        return 0.0
    first = a[: len(b)] if cut else a
    if first == b:
        return 1.0
    mine, other = _pairs(first[:_COMPARED]), _pairs(b[:_COMPARED])
    total = mine.total() + other.total()
    alike = 2 * (mine & other).total() / total if total else 0.0
    return min(alike, 0.999)


def _pairs(text: str) -> Counter[str]:
    framed = f"\n{text.strip()}\n"
    return Counter(framed[place : place + 2] for place in range(len(framed) - 1)) if text.strip() else Counter()


_CHECKS = ("regex_match", "json_valid", "json_schema", "number_match", "language_match", "answer_length")
"""Scores that are 0 for an answer that is not as its row asks."""


def _badness(sample: Mapping[str, Any], one: Shown) -> float:
    checks = [one.scores[name] for name in _CHECKS if name in one.scores]
    failed = 1 - sum(checks) / len(checks) if checks else 0.0
    if one.wanted is not None:
        right = sample.get("exact") is True or one.scores.get("exact_match") == 1
        references = [one.wanted, *(text for text in sample.get("others") or () if isinstance(text, str))]
        alike = max(likeness(one.answer, text) for text in references)
        return max(failed, 0.0 if right else max(1 - alike, 0.001))
    if checks:
        return failed
    if not one.answer.strip():
        return 1.0
    pairs = [one.answer[place : place + 4] for place in range(min(len(one.answer), _COMPARED) - 3)]
    repeated = 1 - len(set(pairs)) / len(pairs) if pairs else 0.0
    return repeated if repeated > 0.3 else 0.0


def _shown(record: Record, place: int) -> Shown:
    sample = record.samples[place]
    live = record.live_samples.get(place)
    wanted = sample.get("wanted")
    part = sample.get("slice")
    return Shown(
        number=place + 1,
        prompt=_prompt(sample),
        answer=_text(sample, "answer"),
        wanted=_wanted(wanted),
        live=_text(live, "answer") if live is not None else None,
        live_cut=bool(live and live.get("cut")),
        finish=_text(sample, "finish_reason"),
        slice=part if isinstance(part, str) else None,
        scores=numbers(sample.get("scores")),
    )


def _with(one: Shown, alike: float, **changes: Any) -> Shown:
    return Shown(**{**vars(one), "likeness": alike, **changes})


def _wanted(wanted: Any) -> str | None:
    if isinstance(wanted, str):
        return wanted
    texts = [text for text in wanted if isinstance(text, str)] if isinstance(wanted, list) else []
    return "\n".join(texts) or None


def _prompt(sample: Mapping[str, Any]) -> str:
    said = sample.get("conversations")
    turns: Sequence[Any] = said if isinstance(said, list) else ()
    texts = [(turn.get("role", ""), _text(turn, "content")) for turn in turns if isinstance(turn, Mapping)]
    return texts[0][1] if len(texts) == 1 else "\n".join(f"{role}: {text}" for role, text in texts)


def _text(document: Mapping[str, Any], key: str) -> str:
    value = document.get(key, "")
    return value if isinstance(value, str) else "" if value is None else str(value)
