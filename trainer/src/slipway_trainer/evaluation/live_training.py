"""Whether the live version has learned from the held-out data: a comparison with it flatters it then.

It is a warning and no refusal: the live version is what it is, and the held-out data is right for the new one.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slipway_trainer.data import learned_passages, passage_sample
from slipway_trainer.data.passage_sample import PassageSample

_NOT_KNOWN = "whether the live version learned from the held-out documents is not known: "


@dataclass(frozen=True)
class LiveTraining:
    note: str
    overlapping: int
    """Held-out documents that the live version has learned from, of those that could be looked up."""
    report: dict[str, Any]


def look(folder: Path, documents: list[str]) -> LiveTraining | None:
    """Looks the held-out documents up in what is known of the live version's training; None where there are none."""
    if not documents:
        return None
    try:
        sample = passage_sample.read(folder)
    except ValueError as error:
        return LiveTraining(f"{_NOT_KNOWN}{error}", 0, {})
    if sample is None:
        return LiveTraining(f"{_NOT_KNOWN}its artifact has no {passage_sample.NAME}", 0, {})
    return _look_up(sample, documents, learned_passages.base_unknown(folder))


def _look_up(sample: PassageSample, documents: list[str], base: str | None) -> LiveTraining:
    looked_up, known = learned_passages.look_up(sample, documents)
    overlapping = [number + 1 for number in known]
    report = {
        "documents": len(documents),
        "looked_up": looked_up,
        "overlapping": overlapping,
        "rate": sample.rate,
        "base_unknown": base,
    }
    return LiveTraining(_note(len(documents), looked_up, len(overlapping), base), len(overlapping), report)


def _note(documents: int, looked_up: int, overlapping: int, base: str | None) -> str:
    if not looked_up:
        return f"{_NOT_KNOWN}all {documents} are too short for the sample of what it learned"
    some = f" (of {documents}) that could be looked up" if looked_up < documents else ""
    of = f"{looked_up} held-out documents{some}"
    unknown = f"; what its base model {base} learned is not known" if base else ""
    if overlapping:
        return (
            f"{overlapping} of {of} stand in what the live version learned from: the comparison flatters it{unknown}. "
            "Hold out other text to compare them fairly"
        )
    return f"none of {of} stands in what the live version learned from{unknown}"
