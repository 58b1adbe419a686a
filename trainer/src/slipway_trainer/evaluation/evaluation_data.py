"""What models are measured on: the copies of the held-out data that `prepare` made."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from slipway_core.plan import Plan
from slipway_core.protocol.workspace import Workspace
from slipway_trainer.evaluation.generation import Prompt
from slipway_trainer.model import lineage
from slipway_trainer.step.errors import BadData


@dataclass(frozen=True)
class EvaluationData:
    documents: list[str]
    prompts: list[Prompt]
    digest: str
    """Of both, so that two evaluations with the same digest are comparable."""
    recall_overlap: int = 0
    report: dict[str, Any] = field(default_factory=dict)
    """What `prepare` reported of the held-out data."""


def read(plan: Plan, workspace: Workspace) -> EvaluationData:
    """Reads the copies of the held-out data that `prepare` made.

    Raises BadData when they are missing, or are not what `prepare` wrote.
    """
    report = lineage.prepared(workspace)
    copies = report["evaluation"]["copies"]
    documents = _rows(workspace.evaluation_documents, copies) if plan.evaluation.data else []
    prompts = _rows(workspace.evaluation_prompts, copies) if plan.evaluation.prompts else []
    return EvaluationData(
        documents=[row["text"] for row in documents],
        prompts=[
            Prompt(row["conversations"], row.get("answer"), bool(row.get("recall")), row.get("source"))
            for row in prompts
        ],
        digest=report["evaluation"]["digest"],
        recall_overlap=int(report["prompts"]["recall_overlap"]),
        report={name: report[name] for name in ("evaluation", "prompts")},
    )


def _rows(path: Path, copies: dict[str, str]) -> list[dict[str, Any]]:
    try:
        text = path.read_bytes()
    except OSError as error:
        raise BadData(f"{path}: {error.strerror}. Start the run again to prepare its data") from None
    if hashlib.sha256(text).hexdigest() != copies.get(path.name):
        raise BadData(f"{path}: was changed after it was prepared. Remove {path.parent.parent} and start the run again")
    return [json.loads(line) for line in text.decode("utf-8").split("\n") if line]
