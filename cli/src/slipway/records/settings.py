"""Settings as one list of names and values, and what differs between two of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from slipway.records.record import Document, Record

Pair = tuple[str | None, str | None]


def flat(document: Any, before: str = "") -> dict[str, str]:
    """Returns every value of a document by its path: `optimizer.learningRate`, `data.train[0].uri`. Of a list of
    objects that have names, by the name."""
    if isinstance(document, Mapping):
        found: dict[str, str] = {}
        for name, value in document.items():
            found |= flat(value, f"{before}.{name}" if before else str(name))
        return found
    if isinstance(document, list) and any(isinstance(one, Mapping) for one in document):
        found = {}
        for number, one in enumerate(document):
            name = one.get("name", number) if isinstance(one, Mapping) else number
            found |= flat(one, f"{before}[{name}]")
        return found
    return {before: _shown(document)} if before else {}


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:g}" if isinstance(value, float) else str(value)


def differences(a: Record, b: Record) -> dict[str, Pair]:
    """Returns the settings that two runs have not in common, with both values; None where one has it not."""
    mine, other = _compared(a.plan), _compared(b.plan)
    names = list(dict.fromkeys([*mine, *other]))
    return {name: (mine.get(name), other.get(name)) for name in names if mine.get(name) != other.get(name)}


_COMPARED = ("model", "stages", "compute", "evaluation", "export")


def _compared(plan: Document) -> dict[str, str]:
    found = flat({name: plan[name] for name in _COMPARED if name in plan})
    kept = {name: value for name, value in found.items() if not name.startswith("evaluation.gates")}
    evaluation = plan.get("evaluation")
    gates = evaluation.get("gates") if isinstance(evaluation, Mapping) else None
    return kept | dict(_gate(gate) for gate in (gates if isinstance(gates, list) else ()) if isinstance(gate, Mapping))


_ASKED = ("max", "min", "maxRegression")
_OF_ROWS = ("metric", "source", "slice", "task", "against")
_PARTS = ("source", "slice", "task")


def _gate(gate: Document) -> tuple[str, str]:
    """Returns what a gate is on, and what it asks: one in the middle of a list is then no difference of all others."""
    asked = next((name for name in _ASKED if gate.get(name) is not None), "")
    # A source, a slice and a task may have the same name.
    told = ((f"{key} " if key in _PARTS else "") + str(gate[key]) for key in _OF_ROWS if gate.get(key) is not None)
    name = " ".join(told)
    more = [f"{key} {_shown(gate[key])}" for key in gate if key not in (*_ASKED, *_OF_ROWS) and gate[key] is not None]
    return f"gate {name} {asked}", ", ".join([_shown(gate.get(asked)), *more])


def data_differences(a: Record, b: Record) -> dict[str, Pair]:
    """Returns the data whose content differs, by its digest."""
    mine, other = data_digests(a), data_digests(b)
    names = list(dict.fromkeys([*mine, *other]))
    return {name: (mine.get(name), other.get(name)) for name in names if mine.get(name) != other.get(name)}


def data_digests(record: Record) -> dict[str, str]:
    """Returns the digest of what each stage learned from, and of what is held out."""
    found: dict[str, str] = {}
    stages = record.prepared.get("stages")
    for stage, splits in stages.items() if isinstance(stages, Mapping) else ():
        for split, one in splits.items() if isinstance(splits, Mapping) else ():
            if isinstance(one, Mapping) and one.get("digest"):
                found[f"{stage}/{split}"] = str(one["digest"])
    if held := held_out(record):
        found["held out"] = held
    return found


def held_out(record: Record) -> str | None:
    """Returns the digest of the held-out data that a run was judged on, or will be."""
    judged = record.evaluation.data_digest if record.evaluation else None
    prepared = record.prepared.get("evaluation")
    return judged or (prepared.get("digest") if isinstance(prepared, Mapping) else None)
