"""Plans over data files that a test writes."""

import json
import random
from pathlib import Path
from typing import Any

from slipway_core import plan as plans
from slipway_core.plan import Plan
from slipway_core.protocol.workspace import Workspace
from slipway_core.resources.training_run import TrainingRun


def write_rows(path: Path, *rows: Any) -> str:
    """Writes rows of JSON, or bytes as they are; returns the file's URI."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(
        b"".join(r if isinstance(r, bytes) else json.dumps(r, ensure_ascii=False).encode() + b"\n" for r in rows)
    )
    return f"file://{path}"


def text(content: str) -> dict[str, str]:
    return {"text": content}


def numbered(count: int, start: int = 0) -> list[dict[str, str]]:
    """Documents that share next to nothing."""
    rng = random.Random(7)
    drawn = [" ".join("".join(rng.choices("abcdefghij", k=5)) for _ in range(12)) for _ in range(start + count)]
    return [text(f"{n}: {words}") for n, words in enumerate(drawn)][start:]


def chat(*contents: str) -> dict[str, Any]:
    """A conversation whose turns alternate between user and assistant."""
    return {"conversations": [{"role": ("user", "assistant")[n % 2], "content": c} for n, c in enumerate(contents)]}


def causal(*uris: str, name: str = "pretrain", max_length: int = 64, **data: Any) -> dict[str, Any]:
    return {"name": name, "data": {"train": [{"uri": uri} for uri in uris]} | data, "maxLength": max_length}


def chatting(*uris: str, name: str = "sft", **settings: Any) -> dict[str, Any]:
    return causal(*uris, name=name, **settings) | {"objective": "Chat"}


def plan(*stages: dict[str, Any], model: dict[str, Any] | None = None, **evaluation: Any) -> Plan:
    scratch = {"hiddenSize": 64, "heads": 2, "maxLength": 128, "tokenizer": {"train": {"vocabSize": 300}}}
    document = {
        "metadata": {"name": "test"},
        "spec": {"model": model or {"scratch": scratch}, "stages": list(stages), "evaluation": evaluation},
    }
    return plans.resolve(TrainingRun.model_validate(document, by_alias=True, by_name=False), uid="uid-1")


def workspace(folder: Path, made: Plan) -> Workspace:
    """A workspace with its plan.json."""
    folder.mkdir(parents=True, exist_ok=True)
    found = Workspace(folder)
    found.plan.write_text(made.to_json())
    return found


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, but what differs from run to run: the time that it took."""
    found = {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
    report = json.loads(found.pop("prepare.json", b"{}"))
    report.pop("seconds", None)
    return found | {"prepare.json": json.dumps(report, sort_keys=True).encode()}
