"""What a stage ends with: a model or an adapter in its folder, and stage.json, written last, that says which."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slipway_core.protocol import artifact
from slipway_core.protocol.step_result import StepResult
from slipway_core.protocol.workspace import StageFolder
from slipway_core.resources.status import Progress
from slipway_host.files import replace_folder, sync_tree, write_atomically
from slipway_trainer.step.fence import Fence


@dataclass(frozen=True)
class Ended:
    kind: str
    """model or adapter."""
    digest: str
    step: int
    """The step whose weights were selected."""
    metrics: dict[str, float]
    progress: dict[str, Any]


def finished(folder: StageFolder, *, stage: str, attempt: int) -> StepResult | None:
    """Returns the result of a stage that ended in an earlier attempt and whose files are whole, else None."""
    try:
        ended = Ended(**json.loads(folder.done.read_text(encoding="utf-8")))
        place = folder.model if ended.kind == "model" else folder.adapter
        if artifact.digest_of(artifact.hash_folder(place)) != ended.digest:
            print(f"{stage}: {place} is damaged, so the stage ends again from its last checkpoint", flush=True)
            folder.done.unlink()
            return None
    except (OSError, ValueError, TypeError, artifact.ArtifactError):
        return None
    return result(ended, stage=stage, attempt=attempt)


def result(ended: Ended, *, stage: str, attempt: int) -> StepResult:
    progress = Progress.model_validate(ended.progress, by_alias=True, by_name=False)
    return StepResult(
        step=stage,
        attempt=attempt,
        metrics=ended.metrics,
        progress=progress.model_copy(update={"warnings": None}),
        warnings=progress.warnings,
    )


def publish(
    folder: StageFolder,
    write: Callable[[Path], None],
    *,
    kind: str,
    step: int,
    metrics: dict[str, float],
    progress: Progress,
    fence: Fence,
) -> Ended:
    """Writes a model or adapter with `write`, into its place in one rename, and then stage.json.

    Raises Superseded when a newer attempt has the stage, OSError when the disk is full; what was there is untouched.
    """
    place = folder.model if kind == "model" else folder.adapter
    temporary = place.with_name(f".{place.name}.tmp-{fence.attempt}")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        write(temporary)
        sync_tree(temporary)
        digest = artifact.digest_of(artifact.hash_folder(temporary))
        fence.check()
        replace_folder(temporary, place)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    ended = Ended(kind=kind, digest=digest, step=step, metrics=metrics, progress=progress.to_document())
    write_atomically(folder.done, json.dumps(ended.__dict__, ensure_ascii=False, indent=2) + "\n")
    return ended
