"""The files of a run's workspace that its records are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from slipway_core.protocol.artifact import MANIFEST
from slipway_core.protocol.workspace import Workspace
from slipway_core.resources.training_run import TrainingRun

_ROOT = Workspace(Path())
PLAN, PREPARED = str(_ROOT.plan), str(_ROOT.prepared)
MANIFEST_OF_ARTIFACT = str(_ROOT.artifact / MANIFEST)
LONGEST = 64 << 20
"""Bytes of a file that are read: one that is longer is no record of ours."""


@dataclass(frozen=True)
class Files:
    """What was read."""

    contents: Mapping[str, bytes] = field(default_factory=dict[str, bytes])
    """By their names below the folder; those that are not there are left out."""
    trouble: str | None = None
    """Why they could not be read, or not all of them, where that is so."""


def metrics(stage: str) -> str:
    return str(_ROOT.stage(stage).metrics)


def resolved(stage: str) -> str:
    return str(_ROOT.stage(stage).resolved)


def report(number: int) -> str:
    return str(_ROOT.report(number))


def samples(number: int) -> str:
    return str(_ROOT.samples(number))


def live_samples(number: int) -> str:
    return str(_ROOT.live_samples(number))


def of_lineage() -> list[str]:
    """Returns what tells what a model was made of."""
    return [PLAN, PREPARED, MANIFEST_OF_ARTIFACT]


def of_run(run: TrainingRun) -> list[str]:
    """Returns the names of all records of a run."""
    evaluation = run.status.evaluation if run.status else None
    judged = [name(evaluation.number) for name in (report, samples, live_samples)] if evaluation else []
    stages = [name(stage.name) for stage in run.spec.stages for name in (metrics, resolved)]
    return [*of_lineage(), *stages, *judged]


def read_folder(folder: Path, names: Sequence[str]) -> Files:
    """Reads those of the files that there are."""
    found, troubles = dict[str, bytes](), list[str]()
    for name, content in _read(folder, names):
        if isinstance(content, bytes):
            found[name] = content
        else:
            troubles.append(content)
    return Files(found, "; ".join(troubles) or None)


def _read(folder: Path, names: Sequence[str]) -> Iterator[tuple[str, bytes | str]]:
    for name in names:
        path = folder / name
        try:
            if path.stat().st_size > LONGEST:
                yield name, f"{path}: is longer than {LONGEST >> 20} MiB and was not read"
            else:
                yield name, path.read_bytes()
        except FileNotFoundError:
            continue
        except OSError as error:
            yield name, f"{path}: cannot be read: {error.strerror}"
