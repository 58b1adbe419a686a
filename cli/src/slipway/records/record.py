"""A run with all that it has left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from slipway import foreign_json
from slipway.records import files
from slipway.records.files import Files
from slipway.training_metrics import StageMetrics, parse_stage
from slipway_core.resources.evaluation import Gate
from slipway_core.resources.status import EvaluationStatus, RunStatus
from slipway_core.resources.training_run import TrainingRun

Document = Mapping[str, Any]
LIVE, BASE = "baseline", "base"
"""Keys of an evaluation's report that have the figures of other models, on the same data."""


@dataclass(frozen=True)
class Record:
    """Whatever is missing or damaged is empty here, and named in `troubles`."""

    run: TrainingRun
    status: RunStatus
    plan: Document = field(default_factory=dict[str, Any])
    prepared: Document = field(default_factory=dict[str, Any])
    report: Document = field(default_factory=dict[str, Any])
    manifest: Document = field(default_factory=dict[str, Any])
    resolved: Mapping[str, Document] = field(default_factory=dict[str, Document])
    """What was decided on the device, by stage."""
    samples: Sequence[Document] = ()
    live_samples: Mapping[int, Document] = field(default_factory=dict[int, Document])
    """The live version's answers, by the line of `samples`."""
    curves: Sequence[StageMetrics] = ()
    judgements: int | None = None
    """Judgements for its endpoint upon data that shares documents with its own; None where that is not known."""
    troubles: Sequence[str] = ()
    """What could not be read, and why."""

    @property
    def name(self) -> str:
        return self.run.name

    @property
    def evaluation(self) -> EvaluationStatus | None:
        return self.status.evaluation

    @property
    def gates(self) -> Sequence[Gate]:
        return self.run.spec.evaluation.gates

    @property
    def metrics(self) -> Mapping[str, float]:
        """What was measured of the model."""
        return numbers(self.report.get("metrics"))

    def beside(self, key: str) -> Mapping[str, float]:
        """What was measured of the model that stands in the report under `key`."""
        other = self.report.get(key)
        return numbers(other.get("metrics")) if isinstance(other, Mapping) else {}


def of_files(run: TrainingRun, found: Files, judgements: int | None = None) -> Record:
    """Reads the records of a run.

    Args:
        judgements: how many there were for its endpoint upon data that shares documents with its own.
    """
    contents, troubles = found.contents, [found.trouble] if found.trouble else []

    def document(name: str) -> Document:
        if name not in contents:
            return {}
        try:
            one = foreign_json.loads(contents[name])
        except ValueError:
            one = None
        if not isinstance(one, dict):
            troubles.append(f"{name}: is damaged, it is no JSON object")
            return {}
        return one

    def rows(name: str) -> list[Document]:
        text = contents.get(name, b"").decode("utf-8", errors="replace")
        kept: list[Document] = []
        for number, line in enumerate(filter(None, text.split("\n")), start=1):
            try:
                row = foreign_json.loads(line)
            except ValueError:
                row = None
            if not isinstance(row, dict):
                troubles.append(f"{name}:{number}: is damaged, it is no JSON object; what comes after it is left out")
                break
            kept.append(row)
        return kept

    status = run.status or RunStatus()
    number = status.evaluation.number if status.evaluation else None
    curves = [
        parse_stage(stage.name, contents.get(files.metrics(stage.name), b"").decode(errors="replace"))
        for stage in run.spec.stages
    ]
    live = rows(files.live_samples(number)) if number is not None else []
    return Record(
        run,
        status,
        plan=document(files.PLAN),
        prepared=document(files.PREPARED),
        report=document(files.report(number)) if number is not None else {},
        manifest=document(files.MANIFEST_OF_ARTIFACT),
        resolved={stage.name: one for stage in run.spec.stages if (one := document(files.resolved(stage.name)))},
        samples=rows(files.samples(number)) if number is not None else (),
        live_samples={row["sample"]: row for row in live if isinstance(row.get("sample"), int)},
        curves=[stage for stage in curves if stage.last_step],
        judgements=judgements,
        troubles=troubles,
    )


def numbers(document: Any) -> dict[str, float]:
    """Returns the figures of a document of figures."""
    if not isinstance(document, Mapping):
        return {}
    return {
        str(name): float(value)
        for name, value in document.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
