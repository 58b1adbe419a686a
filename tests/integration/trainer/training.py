"""Small trainings on prepared data, in this process or in one of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slipway_core import plan as plans
from slipway_core.plan import Plan
from slipway_core.protocol import exit_codes, step_result, variables
from slipway_core.protocol.step_result import StepResult
from slipway_core.protocol.workspace import StageFolder, Workspace
from slipway_core.resources.training_run import TrainingRun
from slipway_trainer.prepare import prepare
from slipway_trainer.step import progress

WORDS = tuple("a small old river moon rain walks sleeps sings over under with and without light snow".split())  # noqa: SIM905
SCRATCH = {"layers": 2, "hiddenSize": 32, "heads": 2, "maxLength": 64, "tokenizer": {"train": {"vocabSize": 320}}}
PRETRAIN: dict[str, Any] = {
    "name": "pretrain",
    "maxLength": 32,
    "steps": 6,
    "batch": {"sequences": 4},
    "optimizer": {"learningRate": 3e-3},
}


@dataclass
class Training:
    plan: Plan
    workspace: Workspace

    def folder(self, stage: str = "pretrain") -> StageFolder:
        return self.workspace.stage(stage)

    def metrics(self, stage: str = "pretrain") -> list[dict[str, Any]]:
        return progress.read(self.folder(stage).metrics)

    def losses(self, stage: str = "pretrain") -> list[float]:
        rows = self.metrics(stage)
        assert [row["step"] for row in rows] == list(range(1, len(rows) + 1)), "a step is missing or there twice"
        return [row["loss"] for row in rows]

    def train(self, stage: str = "pretrain", attempt: int = 1) -> StepResult:
        """Trains in this process, as one rank."""
        from slipway_trainer.step.fence import Fence
        from slipway_trainer.step.signals import StopFlag
        from slipway_trainer.training.process_group import Ranks
        from slipway_trainer.training.stage import train_stage

        Fence(self.workspace.fence(stage), attempt).raise_()
        return train_stage(self.plan, self.workspace, stage=stage, attempt=attempt, ranks=Ranks(), stop=StopFlag())

    def start(self, stage: str = "pretrain", attempt: int = 1, **environment: str) -> subprocess.Popen[str]:
        """Starts the command as an executor does."""
        result = self.workspace.result(stage, attempt)
        result.parent.mkdir(exist_ok=True)
        command = [sys.executable, "-m", "slipway_trainer.main", "train", "--plan", str(self.workspace.plan)]
        return subprocess.Popen(
            [*command, "--stage", stage, "--attempt", str(attempt)],
            env=os.environ | {variables.RESULT_VARIABLE: str(result)} | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def finish(self, stage: str = "pretrain", attempt: int = 1, **environment: str) -> StepResult:
        """Runs the command to its end, which must be a good one."""
        process = self.start(stage, attempt, **environment)
        out, _ = process.communicate(timeout=240)
        assert process.returncode == exit_codes.DONE, out
        return self.result(stage, attempt)

    def result(self, stage: str = "pretrain", attempt: int = 1) -> StepResult:
        return step_result.decode(self.workspace.result(stage, attempt).read_text())


def sentences(count: int) -> list[str]:
    """Documents of 3 to 17 words; the same every time."""
    return [" ".join(WORDS[(n * n + 3 * i + n * i) % len(WORDS)] for i in range(3 + n * 7 % 15)) for n in range(count)]


def make(
    folder: Path,
    *stages: dict[str, Any],
    model: dict[str, Any] | None = None,
    documents: int = 60,
    **spec: Any,
) -> Training:
    """Prepares a run. A stage without data of its own learns sentences."""
    folder.mkdir(parents=True, exist_ok=True)
    data = folder / "train.jsonl"
    data.write_text("".join(json.dumps({"text": text}) + "\n" for text in sentences(documents)))
    chats = folder / "chat.jsonl"
    chats.write_text("".join(json.dumps(_chat(n)) + "\n" for n in range(24)))
    pairs = folder / "pairs.jsonl"
    pairs.write_text("".join(json.dumps(pair(n)) + "\n" for n in range(24)))
    described = []
    for stage in stages or (PRETRAIN,):
        uri = f"file://{ {'Chat': chats, 'Preference': pairs}.get(stage.get('objective', ''), data) }"
        settings = dict(stage)
        given = settings.pop("data", {})
        described.append(settings | {"data": {"train": [{"uri": uri}]} | given})
    document = {
        "metadata": {"name": "tiny"},
        "spec": {"model": model or {"scratch": SCRATCH}, "stages": described} | spec,
    }
    plan = plans.resolve(TrainingRun.model_validate(document, by_alias=True, by_name=False), uid="uid-1")
    workspace = Workspace(folder / "run")
    workspace.root.mkdir()
    workspace.plan.write_text(plan.to_json())
    prepare.run(plan, workspace, attempt=1, workers=1, say=lambda _: None)
    return Training(plan, workspace)


def pair(number: int) -> dict[str, Any]:
    """A question of which the answer that begins with its word is preferred."""
    subject, other = WORDS[number % len(WORDS)], WORDS[number * 5 % len(WORDS)]
    return {
        "prompt": f"say {subject} {number}",
        "chosen": f"{subject} {other}",
        "rejected": f"without {other} and {WORDS[number * 7 % len(WORDS)]}",
    }


def _chat(number: int) -> dict[str, Any]:
    subject = WORDS[number % len(WORDS)]
    turns = [("user", f"say {subject}"), ("assistant", f"{subject} {WORDS[number * 5 % len(WORDS)]}")]
    return {"conversations": [{"role": role, "content": content} for role, content in turns]}
