"""What models are measured on: the copies of the held-out data that `prepare` made."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from slipway_core.plan import Plan
from slipway_core.protocol.workspace import Workspace
from slipway_trainer.data import gate_data
from slipway_trainer.data.formats.answer_checks import Checks
from slipway_trainer.data.formats.turns import ToolCall, Turn
from slipway_trainer.data.held_out import AGAIN, copied_bytes, digest_of_copies
from slipway_trainer.data.rows import Conversation
from slipway_trainer.data.scored_conversations import Spoken
from slipway_trainer.evaluation.generation import Prompt
from slipway_trainer.evaluation.scope import RowOf
from slipway_trainer.evaluation.task_scores import PreparedTask
from slipway_trainer.harness.description import Described, Wanted
from slipway_trainer.model import lineage
from slipway_trainer.step.errors import DamagedShard


@dataclass(frozen=True)
class EvaluationData:
    documents: list[str]
    prompts: list[Prompt]
    digest: str
    """Of both, so that two evaluations with the same digest are comparable."""
    recall_overlap: int = 0
    report: dict[str, Any] = field(default_factory=dict)
    """What `prepare` reported of the held-out data."""
    conversations: list[Spoken] = field(default_factory=list[Spoken])
    documents_of: list[RowOf] = field(default_factory=list[RowOf])
    """Where each document belongs."""
    conversations_of: list[RowOf] = field(default_factory=list[RowOf])
    tasks: list[PreparedTask] = field(default_factory=list[PreparedTask])
    of_gates: list[str] = field(default_factory=list[str])
    """For each gate of the plan, the digest of the part of it that the gate counts."""

    @property
    def texts(self) -> list[str]:
        """The documents, of each conversation what its answers say, and what tasks ask with the right answers."""
        asked = (text for task in self.tasks for text in task.texts)
        return [*self.documents, *(_answers(one.row) for one in self.conversations), *asked]


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
            f"{workspace.evaluation_data}: holds data with the digest {found}, and prepare reported {wanted}. {AGAIN}"
        )
    documents = _rows(workspace.evaluation_documents, copies) if plan.evaluation.data else []
    spoken = workspace.evaluation_conversations
    conversations = _rows(spoken, copies) if spoken.name in copies else []
    prompts = _rows(workspace.evaluation_prompts, copies) if plan.evaluation.prompts else []
    return EvaluationData(
        documents=[row["text"] for row in documents],
        conversations=[Spoken(_conversation(row), row["source"]) for row in conversations],
        prompts=[_prompt(row) for row in prompts],
        documents_of=[_of(row) for row in documents],
        conversations_of=[_of(row) for row in conversations],
        tasks=_tasks(workspace, copies) if plan.evaluation.tasks else [],
        digest=found,
        of_gates=gate_data.of_gates(plan, workspace, copies),
        recall_overlap=int(report["prompts"]["recall_overlap"]),
        report={name: report[name] for name in ("evaluation", "prompts")},
    )


def _tasks(workspace: Workspace, copies: dict[str, str]) -> list[PreparedTask]:
    return [
        PreparedTask(
            Wanted(**one["wanted"]),
            Described.of_document(one["described"]),
            {split: _verified(workspace.evaluation_data / name, copies) for split, name in one["files"].items()},
            one["limit"],
            tuple(one["left_out"]),
            tuple(one["texts"]),
        )
        for one in json.loads(copied_bytes(workspace.evaluation_tasks, copies))
    ]


def _verified(path: Path, copies: dict[str, str]) -> Path:
    copied_bytes(path, copies)
    return path


def _rows(path: Path, copies: dict[str, str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in copied_bytes(path, copies).decode("utf-8").split("\n") if line]


def _of(row: dict[str, Any]) -> RowOf:
    return RowOf(row.get("of"), row.get("slice"), row.get("cluster"))


def _prompt(row: dict[str, Any]) -> Prompt:
    return Prompt(
        row["conversations"],
        row.get("answer"),
        bool(row.get("recall")),
        row.get("source"),
        row.get("tools"),
        tuple(row.get("others", ())),
        Checks(**row.get("checks", {})),
        _of(row),
    )


def _conversation(row: dict[str, Any]) -> Conversation:
    turns = [
        Turn(**{**turn, "tool_calls": tuple(ToolCall(**call) for call in turn.get("tool_calls", ()))})
        for turn in row["turns"]
    ]
    tools = json.dumps(row["tools"], ensure_ascii=False) if row.get("tools") else None
    return Conversation(int(row["source"].rpartition(":")[2]), tuple(turns), tools)


def _answers(row: Conversation) -> str:
    return "\n".join(turn.said for turn, scored in zip(row.turns, row.learned, strict=True) if scored)
