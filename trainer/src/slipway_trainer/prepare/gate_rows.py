"""Whether the held-out data has the rows that gates ask for, and enough of them: known before anything is trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from slipway_core.lifecycle.verdict import FEWEST_CLUSTERS, by_bounds
from slipway_core.plan import Plan
from slipway_core.resources.evaluation import Gate
from slipway_core.resources.gate_metrics import (
    CHAT_METRICS,
    COMPARED_METRICS,
    JUDGE_METRICS,
    RECALL_METRICS,
    REFERENCE_METRICS,
    SCORED_METRICS,
    TEXT_METRICS,
    titled,
    unit,
)
from slipway_trainer.data import answer_rules, blank_rows
from slipway_trainer.data.formats.answer_checks import FIELDS, METRIC_OF
from slipway_trainer.data.held_out import HeldConversation, HeldDocument, HeldOut, HeldPrompt, HeldTask
from slipway_trainer.step.errors import BadData

Held = HeldDocument | HeldConversation | HeldPrompt


def check(plan: Plan, held: HeldOut) -> None:
    """Raises BadData for a gate on rows that are not there, and for a row that lacks what its gate's metric needs."""
    for number, gate in enumerate(plan.evaluation.gates):
        if gate.task is not None:
            continue  # `harness_tasks` knows what it rests on.
        rows = rows_of(gate, held)
        # What a judge holds beside the row's answer needs one as much.
        metric = "exact_match" if plan.evaluation.compared_with(gate) == "Reference" else gate.metric
        if not rows:
            raise BadData(f"{_named(number, gate)}: {_nothing(gate, held)}")
        for row in rows:
            if isinstance(row, HeldPrompt) and (problem := _lacks(metric, row)) is not None:
                raise BadData(f"{row.place}: {_named(number, gate)}: {problem}")


def notes(held: HeldOut) -> list[str]:
    """Returns a sentence for each file of which rows that say nothing are left out, and for each field of prompts that
    is read as the user's own, since it says nothing of answers and no gate asks for it."""
    found = [blank_rows.line(name, count) for name, count in held.blank.items()]
    for field in FIELDS:
        wrong = [(one, why) for one in held.prompts if (why := _unreadable(one, field)) is not None]
        if wrong:
            first, why = wrong[0]
            found.append(
                f"the field {field!r} of {len(wrong):,} prompts says nothing of their answers ({first.place}: {why}); "
                f"{METRIC_OF[field]} is not computed of them"
            )
    return found


def usable(held: HeldOut) -> HeldOut:
    """Returns what is held out without what prompts say of answers that cannot be used."""

    def cleaned(one: HeldPrompt) -> HeldPrompt:
        bad = {field: None for field in FIELDS if _unreadable(one, field) is not None}
        return replace(one, row=replace(one.row, checks=replace(one.row.checks, **bad))) if bad else one

    return replace(held, prompts=[cleaned(one) for one in held.prompts])


def warnings(plan: Plan, held: HeldOut) -> list[str]:
    """Returns a sentence for each gate that will be inconclusive whatever is measured."""
    found: list[str] = []
    for number, gate in enumerate(plan.evaluation.gates):
        if gate.task is not None:
            continue
        rows = rows_of(gate, held)
        # Of no text at all there is no figure that could be taken as it is.
        if not by_bounds(gate) and (rows or gate.metric not in SCORED_METRICS):
            continue
        clusters = len({(row.row.labels.cluster if row.row and row.row.labels.cluster else id(row)) for row in rows})
        if clusters < FEWEST_CLUSTERS:
            field = "evaluation.data" if gate.metric in SCORED_METRICS else "evaluation.prompts"
            together = f" ({clusters} clusters)" if clusters < len(rows) else ""
            found.append(
                f"{_named(number, gate)} rests on {len(rows)} {unit(gate.metric)} of {field}{together} and will be "
                f"{inconclusive(len(rows), 'Add more')}"
            )
    return found


def inconclusive(rows: int, more: str) -> str:
    """Returns why a gate that rests on so few rows is, and what to do.

    Args:
        more: how there would be more of them.
    """
    if not rows:
        return f"inconclusive. {more}"
    return (
        f"inconclusive: {FEWEST_CLUSTERS} are the fewest that bounds can be told from. {more}, or take the figure as "
        "it is with confidence: 0.5"
    )


def _named(number: int, gate: Gate) -> str:
    return f"evaluation.gates[{number}] ({titled(gate.metric, gate.source, gate.slice)})"


def _all_rows(gate: Gate, held: HeldOut) -> Sequence[Held]:
    if gate.metric in TEXT_METRICS:
        return held.documents
    if gate.metric in CHAT_METRICS:
        return held.conversations
    if gate.metric in (*REFERENCE_METRICS, *JUDGE_METRICS):
        return [one for one in held.prompts if not one.recall]
    return [one for one in held.prompts if one.recall] if gate.metric in RECALL_METRICS else held.prompts


def rows_of(gate: Gate, held: HeldOut) -> list[Held]:
    """Returns the rows that the metric of a gate on no task is computed from."""
    return [
        row
        for row in _all_rows(gate, held)
        if gate.source in (None, row.of) and (gate.slice is None or gate.slice == row.row.labels.slice)
    ]


def all_of(gate: Gate, held: HeldOut) -> Sequence[Held | HeldTask]:
    """Returns the same, of a gate on a task too, as far as the rows of that were read."""
    return rows_of(gate, held) if gate.task is None else [one for one in held.tasks if one.task == gate.task]


def _nothing(gate: Gate, held: HeldOut) -> str:
    every = _all_rows(gate, held)
    if not every:
        place = "evaluation.data" if gate.metric in SCORED_METRICS else "evaluation.prompts"
        other = ""
        if gate.metric in CHAT_METRICS:
            other = f"; of texts {gate.metric.removeprefix('chat_')} is"
        elif f"chat_{gate.metric}" in CHAT_METRICS:
            other = f"; of conversations chat_{gate.metric} is"
        return f"{place} has no {unit(gate.metric)} that it is computed from{other}"
    slices = sorted({row.row.labels.slice for row in every if row.row.labels.slice is not None})
    known = f"their slices are {', '.join(slices[:8])}" if slices else "no row has a slice"
    return f"no row that it is computed from is of them; {known}. Name one that has rows, or leave it out"


def _lacks(metric: str, one: HeldPrompt) -> str | None:
    """Returns what a row lacks for a metric, and what to do; None where it lacks nothing."""
    way_out = "or name by source or slice the rows that have it"
    if metric in COMPARED_METRICS and not one.row.answers:
        return f"the row has no answer to compare with. Give it answer or answers, {way_out}"
    if metric == "number_match" and all(answer_rules.only_number(text) is None for text in one.row.answers):
        return f"no answer of the row is a number: the first is {one.row.answers[0][:40]!r}. Give it one, {way_out}"
    fields = [field for field, asks in METRIC_OF.items() if asks == metric]
    for field in fields:
        if (why := _unreadable(one, field)) is not None:
            return f"the field {field} cannot be used: {why}"
    if fields and metric != "number_match" and all(getattr(one.row.checks, field) is None for field in fields):
        return f"the row has no {' or '.join(fields)}. Give it one, {way_out}"
    return None


def _unreadable(one: HeldPrompt, field: str) -> str | None:
    """Returns why what a row says in a field cannot be used; None where it can, or says nothing."""
    if (wrong := dict(one.row.unread).get(field)) is not None:
        return wrong
    value = getattr(one.row.checks, field)
    if value is None:
        return None
    try:
        if field == "pattern":
            answer_rules.compiled(value)
        elif field == "schema":
            answer_rules.validator(value)
        elif field == "language" and value.lower() not in answer_rules.languages():
            return f"{value!r} is no ISO 639-1 code of a language that can be told, such as zh or en"
    except ValueError as error:
        return str(error)
    return None
