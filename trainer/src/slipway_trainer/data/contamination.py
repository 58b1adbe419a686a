"""Held-out text that stands in the training data: looked for by a scan of all of it, and refused (invariant C)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from slipway_trainer.data.boilerplate import COMMON_DOCUMENTS, Verdict
from slipway_trainer.data.held_out import HeldOut, HeldPrompt
from slipway_trainer.data.overlap import CONTAINED_FROM_UNITS, Found, Index, Match
from slipway_trainer.data.scan import Findings, Scan, Wording, wording
from slipway_trainer.data.text import units
from slipway_trainer.step.errors import Overlap

SHOWN = 5
_RELATION = {
    "equal": "is the same as",
    "contained": "stands in",
    "similar": "is nearly the same as",
    "part": "holds most of",
}


def scan_for(held: HeldOut, sampled_below: int = 0) -> Scan:
    """Returns what looks for held-out text: for the documents and, numbered after them, for answers of prompts.

    Args:
        sampled_below: threshold of the sample of passages that is taken on the way.
    """
    prompts = [wording(prompt.row.turns) for prompt in held.prompts]
    return Scan(held=Index(_texts(held)), prompts=prompts, sampled_below=sampled_below)


@dataclass
class Overlaps:
    """What the scan of the training data found, with the first place of each."""

    held: HeldOut
    index: Index
    _matches: dict[int, tuple[str, Match]] = field(default_factory=dict)
    _wordings: dict[int, str] = field(default_factory=dict)
    _discounted: dict[int, tuple[tuple[str, Match], Verdict]] = field(default_factory=dict)
    """Texts that share boilerplate alone: what was found before that was taken out."""

    def __post_init__(self) -> None:
        self._marks = np.zeros(self.index.grams, np.uint64)

    def add(self, name: str, found: Found, wordings: Iterable[Wording]) -> None:
        """`name` is the training file in which they were found."""
        for match in found.matches:
            self._matches.setdefault(match.held, (f"{name}:{match.line}", match))
        for worded in wordings:
            self._wordings.setdefault(worded.prompt, f"{name}:{worded.line}")
        found.sightings.add_to(self._marks)

    def in_doubt(self) -> dict[int, Verdict]:
        """Returns, once all was added, which texts may share no more than boilerplate: they are looked for again."""
        return self.index.without_boilerplate(self._marks, sorted(self._matches))

    def judge_again(self, verdicts: Mapping[int, Verdict], again: Overlaps) -> None:
        """Takes what the second look found of the texts in doubt for what the first one did."""
        for number, verdict in verdicts.items():
            first = self._matches.pop(number)
            if number in again._matches:
                self._matches[number] = again._matches[number]
            else:
                self._discounted[number] = first, verdict

    @property
    def discounted(self) -> int:
        """Held-out documents, and answers of prompts, that share boilerplate with the training data, and no more."""
        return len(self._discounted)

    @property
    def recall_overlap(self) -> int:
        """Prompts that test recall, and whose answers the training data holds."""
        start = len(self.held.documents)
        return sum(prompt.recall for n, prompt in enumerate(_telling_answers(self.held)) if start + n in self._matches)

    @property
    def pairs(self) -> list[dict[str, Any]]:
        """Every held-out document, and every answer and wording of a prompt, that stands in the training data, and
        those that share boilerplate with it alone, with what of the rest stands there.
        """
        answers = _telling_answers(self.held)
        held = [*(d.place for d in self.held.documents), *(f"the answer of {prompt.place}" for prompt in answers)]
        found = [
            {"held": held[number], "training": place, "rule": match.rule, "share": round(match.share, 3)}
            for number, (place, match) in sorted(self._matches.items())
        ]
        found += [
            {
                "held": held[number],
                "training": place,
                "rule": match.rule,
                "share": round(match.share, 3),
                "discounted": f"{verdict.common_share:.0%} of its text stands in {COMMON_DOCUMENTS} training documents "
                f"or more, and {verdict.own_share:.0%} in none",
                "shareOfRest": round(verdict.known_rest, 3),
            }
            for number, ((place, match), verdict) in sorted(self._discounted.items())
        ]
        return found + [
            {"held": self.held.prompts[number].place, "training": place, "rule": "wording", "share": 1.0}
            for number, place in sorted(self._wordings.items())
        ]

    def without_overlap(self) -> HeldOut:
        """Returns what is held out without the documents that stand in the training data."""
        documents = [one for number, one in enumerate(self.held.documents) if number not in self._matches]
        return replace(self.held, documents=documents)

    def refuse(self, *, documents_too: bool = True) -> None:
        """Raises Overlap when a document, or a prompt that is not meant to test recall, stands in the training data.

        A prompt that tests recall must be worded otherwise than every training prompt: the model would only repeat.

        Args:
            documents_too: False where documents are dropped.
        """
        held = self.held
        documents = [
            f"{document.place} {_relation(*self._matches[number])}"
            for number, document in enumerate(held.documents)
            if number in self._matches and documents_too
        ]
        if documents:
            raise Overlap(
                f"evaluation.data: {len(documents)} of {len(held.documents)} held-out documents stand in the training "
                f"data, so a gate on them would measure memory: {_listed(documents)}. Take them out of one of the two, "
                "or set onOverlap: Drop to have them left out"
            )
        asked = [
            f"{prompt.place} is worded as {self._wordings[number]}"
            for number, prompt in enumerate(held.prompts)
            if number in self._wordings
        ]
        if asked:
            raise Overlap(
                f"evaluation.prompts: {len(asked)} of {len(held.prompts)} prompts stand in the training data word for "
                f"word: {_listed(asked)}. Word them otherwise there or here, also where they test recall"
            )
        answered = [
            f"the answer of {prompt.place} {_relation(*self._matches[number])}"
            for number, prompt in enumerate(_telling_answers(held), len(held.documents))
            if number in self._matches and not prompt.recall
        ]
        if answered:
            raise Overlap(
                f"evaluation.prompts: {len(answered)} of {len(held.prompts)} prompts have answers that stand in the "
                f"training data: {_listed(answered)}. Take them out of one of the two, or set recall: true when the "
                "prompts are meant to test recall"
            )


def look_again(overlaps: Overlaps, scanned: Callable[[Scan, int], Iterable[tuple[str, Findings]]]) -> None:
    """Looks a second time for texts that may share no more than boilerplate: without it, in all training data.

    The grams of each are known by the first look alone, and a second one costs less than keeping what each row shared.

    Args:
        scanned: yields the name of each file with what a scan finds in a block of it. It is told for how many texts it
            looks.
    """
    verdicts = overlaps.in_doubt()
    if not verdicts:
        return
    scan = Scan(held=Index(_texts(overlaps.held), verdicts), prompts=[])
    again = Overlaps(overlaps.held, scan.held)
    for name, findings in scanned(scan, len(verdicts)):
        again.add(name, findings.held, ())
    overlaps.judge_again(verdicts, again)


def _texts(held: HeldOut) -> list[str]:
    answers = [prompt.row.answer or "" for prompt in _telling_answers(held)]
    return [*(document.row.text for document in held.documents), *answers]


def _telling_answers(held: HeldOut) -> list[HeldPrompt]:
    """Prompts whose answers are looked for: those that test recall, and others that are long enough to tell."""
    return [p for p in held.prompts if p.row.answer and (p.recall or len(units(p.row.answer)) >= CONTAINED_FROM_UNITS)]


def _relation(place: str, match: Match) -> str:
    share = "" if match.rule == "equal" else f" ({match.share:.0%} of it)"
    return f"{_RELATION[match.rule]} {place}{share}"


def _listed(found: list[str]) -> str:
    more = (
        f"; and {len(found) - SHOWN} more, all of them in overlap.jsonl of the run's folder"
        if len(found) > SHOWN
        else ""
    )
    return "; ".join(found[:SHOWN]) + more
