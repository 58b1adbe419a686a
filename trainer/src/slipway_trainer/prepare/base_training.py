"""Whether the base model has learned from the held-out data, where its artifact says what it learned (invariant C).

The training data of an earlier run is not here, but a sample of its passages lies in its artifact. A document of which
half of what can be looked up is known there was learned: it is refused, or left out where the run asks for it, as one
in the run's own data is; so are answers of prompts, but for those that test recall. Of a base without a sample nobody
can say it, and prepare does so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from slipway_core.plan import Plan
from slipway_host.files import json_lines, write_atomically
from slipway_trainer.data import learned_passages, passage_sample
from slipway_trainer.data.contamination import tells
from slipway_trainer.data.held_out import HeldConversation, HeldDocument, HeldOut, HeldPrompt, HeldTask
from slipway_trainer.data.passage_sample import PassageSample
from slipway_trainer.step.errors import Overlap
from slipway_trainer.step.progress import Say

_NAMED = 5


@dataclass(frozen=True)
class BaseTraining:
    held: HeldOut
    """What is held out and that the base has not learned, as far as that is known."""
    report: dict[str, Any]
    """Nothing where there is no base, or no document to look up."""
    pairs: list[dict[str, Any]]
    """What was left out, as overlap.jsonl has it."""

    @property
    def dropped(self) -> int:
        return len(self.pairs)


def check(
    plan: Plan, base: Path | None, held: HeldOut, say: Say, warn: Say, *, pairs: Path | None = None
) -> BaseTraining:
    """Looks held-out documents, conversations, answers of prompts and tasks up in what the base model has learned.

    Args:
        base: its folder; None when the plan makes a new one.
        warn: told what is left out.
        pairs: the file that gets all that it has learned, where a run is refused for that.

    Raises Overlap where it has learned some, unless the run asks for these to be left out; answers of prompts are not,
    as of those in the run's own data.
    """
    asked = [*held.documents, *held.conversations, *held.tasks]
    answered = [(one, said) for one in held.prompts if not one.recall for said in one.row.answers if tells(said)]
    if base is None or not (asked or answered):
        return BaseTraining(held, {}, [])
    uri = plan.model.from_ or ""
    try:
        sample = passage_sample.read(base)
        unknown = f"its artifact has no {passage_sample.NAME}" if sample is None else ""
    except ValueError as error:
        sample, unknown = None, str(error)
    if sample is None:
        say(f"whether the base model {uri} has learned from the held-out data is not known: {unknown}")
        return BaseTraining(held, {"unknown": unknown}, [])
    _refuse_answers(answered, sample, uri)
    if not asked:
        return BaseTraining(held, {}, [])
    looked_up, learned = learned_passages.look_up(sample, [_text(one) for one in asked])
    before = learned_passages.base_unknown(base)
    if before is not None:
        say(f"what {before}, from which the base model {uri} was made, has learned is not known")
    report = {
        "documents": len(asked),
        "looked_up": looked_up,
        "overlapping": [_source(asked[number]) for number in learned],
        "rate": sample.rate,
        "base_unknown": before,
    }
    if not learned:
        return BaseTraining(held, report, [])
    chats, tasks_from = len(held.documents), len(held.documents) + len(held.conversations)
    field = "evaluation.data" if learned[0] < tasks_from else "evaluation.tasks"
    places = [asked[number].place for number in learned]
    found = [{"held": place, "training": uri, "rule": "base"} for place in places]
    listed = _listed(places)
    what = " and ".join(
        name
        for name, rows in (
            ("documents", held.documents),
            ("conversations", held.conversations),
            ("documents of tasks", held.tasks),
        )
        if rows
    )
    words = f"{len(places)} of {len(asked)} held-out {what} stand in what the base model {uri} learned from"
    if plan.evaluation.on_overlap != "Drop":
        if pairs is not None:
            write_atomically(pairs, json_lines(found))
        raise Overlap(
            f"{field}: {words}, so a gate on them would measure memory: {listed}. Hold out other text, or set "
            "onOverlap: Drop to have them left out"
        )
    warn(f"{words} and are left out (onOverlap: Drop): {listed}")
    known = set(learned)
    kept = [one for number, one in enumerate(held.documents) if number not in known]
    spoken = [one for number, one in enumerate(held.conversations, chats) if number not in known]
    tasks = [one for number, one in enumerate(held.tasks, tasks_from) if number not in known]
    return BaseTraining(replace(held, documents=kept, conversations=spoken, tasks=tasks), report, found)


def _refuse_answers(answered: list[tuple[HeldPrompt, str]], sample: PassageSample, uri: str) -> None:
    """Raises Overlap where the base model has learned answers that are to be found, and not to be recalled."""
    _, learned = learned_passages.look_up(sample, [said for _, said in answered])
    places = list(dict.fromkeys(answered[number][0].place for number in learned))
    if places:
        raise Overlap(
            f"evaluation.prompts: {len(places)} of {len({one.place for one, _ in answered})} prompts have answers that "
            f"stand in what the base model {uri} learned from: {_listed(places)}. Ask for something else, or set "
            "recall: true when the prompts are meant to test recall"
        )


def _listed(places: Sequence[str]) -> str:
    return ", ".join(places[:_NAMED]) + (f" and {len(places) - _NAMED} more" if len(places) > _NAMED else "")


def _text(one: HeldDocument | HeldConversation | HeldTask) -> str:
    """Returns a text as it is looked up: of a conversation, as of what the live version has learned, its answers."""
    if isinstance(one, HeldTask):
        return one.text
    if isinstance(one, HeldDocument):
        return one.row.text
    return "\n".join(turn.said for turn, scored in zip(one.row.turns, one.row.learned, strict=True) if scored)


def _source(one: HeldDocument | HeldConversation | HeldTask) -> str:
    return one.place if isinstance(one, HeldTask) else one.source
