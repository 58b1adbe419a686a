"""prepare.json: what was prepared, by counts and digests. It is written last, so what it names is there."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from typing import Any

from slipway_core.plan import Plan
from slipway_trainer.data import learned_validation, row_warnings
from slipway_trainer.model import lineage
from slipway_trainer.prepare import source_shares

VERSION = 1
UNFIT = ("split", "truncated", "dropped", "skipped", "unanswered", "opened", "apart")
METRICS = 40
"""Of all stages together that the result names."""


def make(
    plan: Plan,
    *,
    stages: dict[str, Any],
    evaluation: dict[str, Any],
    prompts: dict[str, Any],
    tokenizer: dict[str, Any],
    base: str | None = None,
    warnings: Sequence[str] = (),
    seconds: float,
) -> dict[str, Any]:
    """Returns the report of parts that say each for itself what was made.

    Args:
        base: digest of the base model of a run without stages, which export must find again.
        warnings: what was found that whoever wrote the run should know.
    """
    made = {
        "version": VERSION,
        "plan_digest": plan.digest,
        "stages": stages,
        "evaluation": evaluation,
        "prompts": prompts,
        "tokenizer": tokenizer,
        **({} if base is None else {"base": base}),
    }
    return made | {"digest": _digest(made), "warnings": list(warnings), "seconds": round(seconds, 3)}


def metrics(report: dict[str, Any]) -> dict[str, float]:
    """What a status shows: sizes, and how many rows were not learned as they stand in their file."""
    splits = [(f"{stage}_{split}", d) for stage, found in report["stages"].items() for split, d in found.items()]
    unfit = [
        (f"{place}_{name}", float(details[name]))
        for place, details in splits
        for name in (*UNFIT, "deduplicated", "normalized", "markers", "learned_too")
        if details.get(name)
    ]
    sizes = [(f"{place}_{name}", float(details[name])) for place, details in splits for name in ("documents", "tokens")]
    # A result has 4 KiB, and what was left out is worth more there than the sizes; the report has all of it.
    shares = [
        (f"{stage}_train_share_{number}", float(source["share"]))
        for stage, found in report["stages"].items()
        for number, source in enumerate(found["train"].get("sources", ()))
        if source["asked"] is not None
    ]
    return dict([*unfit, *sizes, *shares][:METRICS]) | {
        "vocabulary": float(report["tokenizer"]["vocabulary"]),
        "evaluation_documents": float(report["evaluation"]["documents"]),
        "evaluation_dropped": float(report["evaluation"].get("dropped", 0)),
        "evaluation_discounted": float(report["evaluation"].get("discounted", 0)),
        "recall_overlap": float(report["prompts"]["recall_overlap"]),
    }


def lines(stages: dict[str, Any]) -> Iterator[str]:
    """Yields for people how much each split holds, and what became of rows that did not fit."""
    for stage, splits in stages.items():
        for split, counts in splits.items():
            by_form = ", ".join(f"{form} {rows}" for form, rows in sorted(counts["normalized_by"].items()))
            notes = [
                f"{counts[name]} {what}"
                for name, what in (
                    ("split", "longer than maxLength and split"),
                    ("truncated", "cut where maxLength ends, or the last answer in it"),
                    ("dropped", "longer than maxLength and left out"),
                    ("skipped", f"skipped, no answer fits: {', '.join(counts['skipped_lines'][:3])} …"),
                    ("unanswered", "with turns after the last answer, which were left out"),
                    ("opened", "opened by the assistant, whose first turn is read and not learned"),
                    ("apart", "more texts, since the template renders a conversation otherwise at each turn"),
                    ("normalized", f"changed by data.normalization: {by_form}"),
                    ("deduplicated", _left_out(counts)),
                    ("markers", "control tokens written out in turns, which are learned as text"),
                    ("duplicates", "that say the same as another row"),
                )
                if counts.get(name)
            ]
            yield from source_shares.lines(stage, counts.get("sources", ()))
            detail = f" ({'; '.join(notes)})" if notes else ""
            forms = ", ".join(sorted({str(file["form"]) for file in counts["files"]}))
            yield f"{stage}/{split}: {counts['rows']} rows ({forms}), {counts['tokens']} tokens{detail}"


def warnings(plan: Plan, stages: dict[str, Any]) -> Iterator[str]:
    """Yields what nobody refuses, and what is most likely not meant."""
    for stage in plan.stages:
        train = stages[stage.name]["train"]
        yield from row_warnings.of_stage(
            stage.name,
            rows=train["rows"],
            cut=sum(train.get(name, 0) for name in ("truncated", "skipped", "dropped")),
            markers=train.get("markers", 0),
            apart=train.get("apart", 0),
            max_length=stage.max_length,
        )
        for counts in stages[stage.name].values():
            if learned := counts.get("learned_too"):
                yield learned_validation.line(stage.name, learned, counts["rows"])


def _left_out(counts: dict[str, Any]) -> str:
    near = counts.get("deduplicated_near", 0)
    return f"left out, {near} of them nearly the same as another row, the others the same: duplicates.jsonl has them"


def _digest(report: dict[str, Any]) -> str:
    """Covers what was made, not where the sources lie or how long it took."""
    parts = {
        "stages": lineage.digests(report),
        "tokenizer": report["tokenizer"]["digest"],
        "evaluation": report["evaluation"]["digest"],
    }
    return "sha256:" + hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
