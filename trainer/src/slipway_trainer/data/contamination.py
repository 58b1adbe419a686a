"""Held-out text that stands in the training data: looked for by a scan of all of it, and refused (invariant C)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, Literal

import numpy as np

from slipway_trainer.data.boilerplate import COMMON_DOCUMENTS, Verdict
from slipway_trainer.data.held_out import HeldOut
from slipway_trainer.data.overlap import CONTAINED_FROM_UNITS, Found, Index, Match
from slipway_trainer.data.scan import Findings, Scan, Wording, exchange, spoken_turns, wording
from slipway_trainer.data.text import units
from slipway_trainer.step.errors import Overlap

SHOWN = 5
_RELATION = {
    "equal": "is the same as",
    "contained": "stands in",
    "similar": "is nearly the same as",
    "part": "holds most of",
}


@dataclass(frozen=True)
class HeldText:
    """A text that is looked for in the training data."""

    kind: Literal["document", "conversation", "prompt", "task"]
    number: int
    """Which one of its kind it is of."""
    what: str
    """What it is called in an error."""
    text: str


def held_texts(held: HeldOut) -> list[HeldText]:
    """Returns the texts of documents, and the answers of prompts and conversations that are long enough to tell; of
    prompts that test recall all of them."""
    found = [HeldText("document", n, one.place, one.row.text) for n, one in enumerate(held.documents)]
    for number, one in enumerate(held.prompts):
        found += [
            HeldText("prompt", number, f"the answer of {one.place}", answer)
            for answer in one.row.answers
            if answer and (one.recall or tells(answer))
        ]
    for number, one in enumerate(held.conversations):
        answers = [turn.said for turn, scored in zip(one.row.turns, one.row.learned, strict=True) if scored]
        found += [
            HeldText("conversation", number, f"an answer of {one.place}", answer) for answer in answers if tells(answer)
        ]
    return found + [HeldText("task", number, one.place, one.text) for number, one in enumerate(held.tasks)]


def tells(answer: str) -> bool:
    """Whether an answer is long enough to be found by itself."""
    return len(units(answer)) >= CONTAINED_FROM_UNITS


def exchanges(held: HeldOut) -> list[tuple[int, str]]:
    """Returns the short answers of conversations, each with the turn before it, in the form in which they are looked
    for, and the number of their conversation: "Yes." stands everywhere, and answers this very question in one place."""
    found: list[tuple[int, str]] = []
    for number, one in enumerate(held.conversations):
        told = spoken_turns(one.row.turns)
        found += [
            (number, exchange(before, turn))
            for before, turn in pairwise(told)
            if turn.role == "assistant" and turn.learned and not tells(turn.said)
        ]
    return found


def scan_for(held: HeldOut, sampled_below: int = 0) -> Scan:
    """Returns what looks for held-out text: for `held_texts`, and for wordings of prompts and, numbered after them, of
    short answers with what they answer.

    Args:
        sampled_below: threshold of the sample of passages that is taken on the way.
    """
    prompts = [wording(prompt.row.turns) for prompt in held.prompts]
    short = [text for _, text in exchanges(held)]
    index = Index([one.text for one in held_texts(held)])
    return Scan(held=index, prompts=[*prompts, *short], sampled_below=sampled_below, exchanges=bool(short))


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
        self._texts = held_texts(self.held)
        self._exchanges = exchanges(self.held)

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
        """Held-out texts, and answers, that share boilerplate with the training data, and no more."""
        return len(self._discounted)

    @property
    def recall_overlap(self) -> int:
        """Prompts that test recall, and whose answers the training data holds."""
        return sum(self.held.prompts[number].recall for number in self._found("prompt"))

    @property
    def pairs(self) -> list[dict[str, Any]]:
        """Every held-out document, every answer of a prompt or conversation, and every wording of a prompt, that stands
        in the training data, and those that share boilerplate with it alone, with what of the rest stands there.
        """
        found = [
            {"held": self._texts[number].what, "training": place, "rule": match.rule, "share": round(match.share, 3)}
            for number, (place, match) in sorted(self._matches.items())
        ]
        found += [
            {
                "held": self._texts[number].what,
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
            {"held": self._worded(number), "training": place, "rule": "wording", "share": 1.0}
            for number, place in sorted(self._wordings.items())
        ]

    def apart(self, *, drop: bool) -> HeldOut:
        """Returns what a run judges by: all that is held out or, where it drops them, that without the documents,
        conversations and tasks' documents that stand in the training data."""
        if not drop:
            return self.held
        documents, conversations, tasks = self._found("document"), self._conversations(), self._found("task")
        return replace(
            self.held,
            documents=[one for number, one in enumerate(self.held.documents) if number not in documents],
            conversations=[one for number, one in enumerate(self.held.conversations) if number not in conversations],
            tasks=[one for number, one in enumerate(self.held.tasks) if number not in tasks],
        )

    def refuse(self, *, documents_too: bool = True) -> None:
        """Raises Overlap when a document, a conversation, or a prompt that is not meant to test recall, stands in the
        training data.

        A prompt that tests recall must be worded otherwise than every training prompt: the model would only repeat.

        Args:
            documents_too: False where documents and conversations are dropped.
        """
        held = self.held
        way_out = "Take them out of one of the two, or set onOverlap: Drop to have them left out"
        documents = list(self._found("document").values())
        if documents and documents_too:
            raise Overlap(
                f"evaluation.data: {len(documents)} of {len(held.documents)} held-out documents stand in the training "
                f"data, so a gate on them would measure memory: {_listed(documents)}. {way_out}"
            )
        conversations = list(self._conversations().values())
        if conversations and documents_too:
            raise Overlap(
                f"evaluation.data: {len(conversations)} of {len(held.conversations)} held-out conversations have "
                "answers that stand in the training data, so a gate on them would measure memory: "
                f"{_listed(conversations)}. {way_out}"
            )
        tasks = list(self._found("task").values())
        if tasks and documents_too:
            raise Overlap(
                f"evaluation.tasks: {len(tasks)} of {len(held.tasks)} documents of tasks stand in the training data, "
                f"so a gate on them would measure memory: {_listed(tasks)}. {way_out}"
            )
        asked = [
            f"{held.prompts[number].place} is worded as {place}"
            for number, place in sorted(self._wordings.items())
            if number < len(held.prompts)
        ]
        if asked:
            raise Overlap(
                f"evaluation.prompts: {len(asked)} of {len(held.prompts)} prompts stand in the training data word for "
                f"word: {_listed(asked)}. Word them otherwise there or here, also where they test recall"
            )
        answered = [said for number, said in self._found("prompt").items() if not held.prompts[number].recall]
        if answered:
            raise Overlap(
                f"evaluation.prompts: {len(answered)} of {len(held.prompts)} prompts have answers that stand in the "
                f"training data: {_listed(answered)}. Take them out of one of the two, or set recall: true when the "
                "prompts are meant to test recall"
            )

    def _found(self, kind: str) -> dict[int, str]:
        """Returns, by their number, those of a kind that stand in the training data, with where."""
        found: dict[int, str] = {}
        for number, (place, match) in sorted(self._matches.items()):
            text = self._texts[number]
            if text.kind == kind:
                found.setdefault(text.number, f"{text.what} {_relation(place, match)}")
        return found

    def _conversations(self) -> dict[int, str]:
        found = self._found("conversation")
        for number, place in sorted(self._wordings.items()):
            if number >= len(self.held.prompts):
                own = self._exchanges[number - len(self.held.prompts)][0]
                found.setdefault(own, f"{self._worded(number)} is answered so in {place}")
        return dict(sorted(found.items()))

    def _worded(self, number: int) -> str:
        prompts = self.held.prompts
        if number < len(prompts):
            return prompts[number].place
        return f"a turn of {self.held.conversations[self._exchanges[number - len(prompts)][0]].place}"


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
    scan = Scan(held=Index([one.text for one in held_texts(overlaps.held)], verdicts), prompts=[])
    again = Overlaps(overlaps.held, scan.held)
    for name, findings in scanned(scan, len(verdicts)):
        again.add(name, findings.held, ())
    overlaps.judge_again(verdicts, again)


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
