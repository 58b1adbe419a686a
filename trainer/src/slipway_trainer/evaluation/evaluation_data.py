"""What models are measured on: the copies of the held-out data that `prepare` made."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from slipway_core.plan import Plan
from slipway_core.protocol.workspace import Workspace
from slipway_trainer.data.held_out import digest_of_copies
from slipway_trainer.evaluation.generation import Prompt
from slipway_trainer.model import lineage
from slipway_trainer.step.errors import BadData, DamagedShard

_AGAIN = "Start the run again, or have the model judged again, and the data is prepared anew"


@dataclass(frozen=True)
class EvaluationData:
    documents: list[str]
    prompts: list[Prompt]
    digest: str
    """Of both, so that two evaluations with the same digest are comparable."""
    recall_overlap: int = 0
    report: dict[str, Any] = field(default_factory=dict)
    """What `prepare` reported of the held-out data."""


def read(plan: Plan, workspace: Workspace, digest: str | None = None) -> EvaluationData:
    """Reads the copies of the held-out data that `prepare` made.

    Args:
        digest: that they must have, by the run's record: who can write in the workspace can write a report of other
            copies too. None where the record has none.

    Raises BadData when they are missing, DamagedShard when they are not what `prepare` wrote.
    """
    report = lineage.prepared(workspace)
    copies = report["evaluation"]["copies"]
    found = digest_of_copies(copies)
    wanted = report["evaluation"]["digest"] if digest is None else digest
    if found != wanted:
        raise DamagedShard(
            f"{workspace.evaluation_data}: holds data with the digest {found}, and prepare reported {wanted}. {_AGAIN}"
        )
    documents = _rows(workspace.evaluation_documents, copies) if plan.evaluation.data else []
    prompts = _rows(workspace.evaluation_prompts, copies) if plan.evaluation.prompts else []
    return EvaluationData(
        documents=[row["text"] for row in documents],
        prompts=[
            Prompt(
                row["conversations"], row.get("answer"), bool(row.get("recall")), row.get("source"), row.get("tools")
            )
            for row in prompts
        ],
        digest=found,
        recall_overlap=int(report["prompts"]["recall_overlap"]),
        report={name: report[name] for name in ("evaluation", "prompts")},
    )


def _rows(path: Path, copies: dict[str, str]) -> list[dict[str, Any]]:
    try:
        text = path.read_bytes()
    except OSError as error:
        raise BadData(f"{path}: {error.strerror}. Start the run again to prepare its data") from None
    if hashlib.sha256(text).hexdigest() != copies.get(path.name):
        raise DamagedShard(f"{path}: was changed after it was prepared. {_AGAIN}")
    return [json.loads(line) for line in text.decode("utf-8").split("\n") if line]
