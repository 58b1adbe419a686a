"""The tasks of lm-evaluation-harness that a plan names: known before anything is read, their rows fetched and copied.

What is refused here would else be found when the model is trained. The copies are all that `evaluate` reads: it needs
neither the hub nor the files that were given.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from slipway_core.lifecycle.verdict import FEWEST_CLUSTERS, by_bounds
from slipway_core.plan import Plan
from slipway_core.protocol import artifact
from slipway_core.protocol.workspace import Workspace
from slipway_core.resources import uris
from slipway_core.resources.gate_metrics import titled
from slipway_core.resources.source import Source
from slipway_core.resources.task import HarnessTask, TaskFile
from slipway_host.files import write_atomically
from slipway_trainer.data import text_file
from slipway_trainer.data.data_files import data_files
from slipway_trainer.data.held_out import HeldTask
from slipway_trainer.data.hub_files import hub_files
from slipway_trainer.data.reading.block import AS_IT_IS
from slipway_trainer.data.source_file import SourceFile
from slipway_trainer.harness import process, task_file
from slipway_trainer.harness.description import Copied, Described, Rows, Wanted
from slipway_trainer.harness.process import Harness, Refused
from slipway_trainer.model.context_length import ContextLength
from slipway_trainer.prepare import gate_rows
from slipway_trainer.step.errors import BadConfig, BadData, StepFailure
from slipway_trainer.step.progress import Say

_DEFINITIONS = (".yaml", ".yml")


@dataclass(frozen=True)
class KnownTask:
    """A task before its rows are read."""

    number: int
    """Of evaluation.tasks."""
    asked: HarnessTask
    wanted: Wanted
    described: Described

    @property
    def field(self) -> str:
        return f"evaluation.tasks[{self.number}] ({self.asked.name})"


@dataclass(frozen=True)
class CopiedTask:
    """A task whose rows lie where `evaluate` reads them."""

    task: KnownTask
    copied: Copied
    files: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    """Where the rows are from, for the report."""


def prepare(
    plan: Plan, workspace: Workspace, longest: ContextLength | None, say: Say, check: Callable[[], None]
) -> list[CopiedTask]:
    """Describes, fetches and copies all tasks.

    Args:
        check: raises where another attempt writes here by now.
        longest: input that the model takes; None where nothing says it.

    Raises BadConfig for a task or a gate that cannot be, BadData for rows that cannot be read, and a FetchError.
    """
    if not plan.evaluation.tasks:
        return []
    workspace.evaluation_data.mkdir(parents=True, exist_ok=True)
    for path in workspace.evaluation_data.glob("task-*"):
        path.unlink()
    with process.opened() as harness:
        known = _known(plan, harness, workspace, longest, say)
        return [_copied(task, harness, workspace, say, check) for task in known]


def look(
    plan: Plan, workspace: Workspace, longest: ContextLength | None, say: Say, bad: Callable[[StepFailure], None]
) -> list[CopiedTask]:
    """Does the same in a workspace that nobody keeps, and copies no rows of the hub: they are fetched once it is known
    that the run is wanted.

    Args:
        bad: told of each task whose rows cannot be read.

    Raises what `prepare` would for tasks and gates that cannot be.
    """
    workspace.evaluation_data.mkdir(parents=True, exist_ok=True)
    found: list[CopiedTask] = []
    with process.opened() as harness:
        for task in _known(plan, harness, workspace, longest, say):
            if of_hub(task.asked):
                continue
            try:
                found.append(_copied(task, harness, workspace, say, lambda: None))
            except StepFailure as error:
                bad(error)
    return found


def of_hub(task: HarnessTask) -> bool:
    """Whether the rows of a task are those that it names itself."""
    return all(_defines(one) for one in task.data or [])


def _known(
    plan: Plan, harness: Harness, workspace: Workspace, longest: ContextLength | None, say: Say
) -> list[KnownTask]:
    return describe(plan, harness, workspace.fetched_data, longest, workspace.fetched_commits, say)


def describe(
    plan: Plan, harness: Harness, cache: Path, longest: ContextLength | None, commits: Path, say: Say
) -> list[KnownTask]:
    """Returns what is known of the tasks without their rows. Raises BadConfig, BadData, or a FetchError."""
    found: list[KnownTask] = []
    for number, task in enumerate(plan.evaluation.tasks):
        named = f"evaluation.tasks[{number}] ({task.name})"
        definition = _definition(task, f"evaluation.tasks[{number}].data", cache, commits, say)
        wanted = Wanted(task.name, definition, task.fewshot, own_data=not of_hub(task))
        try:
            described = harness.describe(wanted)
        except Refused as error:
            raise BadConfig(f"{named}: {error}") from None
        if described.writes is not None and longest is not None and described.writes >= longest.tokens:
            raise BadConfig(
                f"{named}: its answers have up to {described.writes} tokens, and the model takes {longest.tokens} with "
                f"what they answer ({longest.where}). Take another task, or a model with a longer context"
            )
        found.append(KnownTask(number, task, wanted, described))
    _check_gates(plan, {one.asked.name: one for one in found})
    return found


def texts(tasks: Sequence[CopiedTask]) -> list[HeldTask]:
    """Returns what tasks ask and answer, to be looked up in the training data."""
    return [
        HeldTask(one.task.asked.name, number, text) for one in tasks for number, text in enumerate(one.copied.texts)
    ]


def publish(tasks: Sequence[CopiedTask], kept: Sequence[HeldTask], workspace: Workspace) -> dict[str, str]:
    """Writes down what `evaluate` is to judge; returns the SHA-256 of each copy by its name.

    Args:
        kept: documents that stand in no training data.
    """
    workspace.evaluation_tasks.unlink(missing_ok=True)
    if not tasks:
        return {}
    told = {(one.task, one.number) for one in kept}
    digests: dict[str, str] = {}
    entries: list[dict[str, Any]] = []
    for one in tasks:
        name, every = one.task.asked.name, len(one.copied.texts)
        entries.append(
            {
                "wanted": vars(one.task.wanted),
                "described": one.task.described.to_document(),
                "files": dict(one.copied.files),
                "limit": one.task.asked.limit,
                "left_out": [number for number in range(every) if (name, number) not in told],
                "texts": [text for number, text in enumerate(one.copied.texts) if (name, number) in told],
            }
        )
        for file in one.copied.files.values():
            digests[file] = artifact.hash_file(workspace.evaluation_data / file).sha256
    text = json.dumps(entries, ensure_ascii=False, indent=1) + "\n"
    write_atomically(workspace.evaluation_tasks, text)
    return digests | {workspace.evaluation_tasks.name: hashlib.sha256(text.encode()).hexdigest()}


def report(tasks: Sequence[CopiedTask]) -> list[dict[str, Any]]:
    """Returns what the report of the preparation says of the tasks."""
    return [
        {
            "task": one.task.asked.name,
            "harness": f"lm-eval {one.task.described.version}",
            "version": one.task.described.revision,
            "fewshot": one.task.described.fewshot,
            "documents": len(one.copied.texts),
            "metrics": list(one.task.described.metrics),
            "files": one.files,
        }
        for one in tasks
    ]


def warnings(plan: Plan, tasks: Sequence[CopiedTask], kept: Sequence[HeldTask]) -> list[str]:
    """Returns a sentence for each gate on some tasks that will be inconclusive whatever is measured.

    Args:
        kept: documents that stand in no training data.
    """
    found: list[str] = []
    copied = {one.task.asked.name: one for one in tasks}
    for number, gate in enumerate(plan.evaluation.gates):
        count = sum(one.task == gate.task for one in kept)
        # Of no document at all there is no figure that could be taken as it is.
        fewest = FEWEST_CLUSTERS if by_bounds(gate) else 1
        if gate.task is None or gate.task not in copied or count >= fewest:
            continue
        found.append(
            f"evaluation.gates[{number}] ({titled(gate.metric, None, None, gate.task)}) rests on {count} documents and "
            f"will be {gate_rows.inconclusive(count, _more(copied[gate.task]))}"
        )
    return found


def _more(one: CopiedTask) -> str:
    """Returns how a task would have more documents."""
    asked = one.task.asked
    # With fewer documents than its limit it has no more rows.
    if asked.limit is not None and len(one.copied.texts) >= asked.limit:
        return f"Take a greater limit than {asked.limit}"
    if of_hub(asked):
        return "Take a task with more of them"
    return f"Give it more rows (evaluation.tasks[{one.task.number}].data)"


def _check_gates(plan: Plan, tasks: Mapping[str, KnownTask]) -> None:
    for number, gate in enumerate(plan.evaluation.gates):
        if gate.task is None:
            continue
        metrics, named = tasks[gate.task].described.metrics, f"evaluation.gates[{number}].metric: {gate.metric}"
        shares = [name for name, one in metrics.items() if one.share]
        can = f"a gate can be on {', '.join(shares)}" if shares else "no gate can be on this task"
        if gate.metric not in metrics:
            raise BadConfig(f"{named}: task {gate.task} has no such metric; {can}")
        if not metrics[gate.metric].share:
            raise BadConfig(
                f"{named}: of task {gate.task} it is no mean of what each document scores, so nobody can tell its "
                f"bounds; {can}"
            )
        if gate.max_regression is not None and not metrics[gate.metric].higher:
            raise BadConfig(f"{named}: less of it is better in task {gate.task}, and maxRegression is of what more is")


def _defines(file: TaskFile) -> bool:
    return file.uri.endswith(_DEFINITIONS)


def _definition(task: HarnessTask, field: str, cache: Path, commits: Path, say: Say) -> str | None:
    found = [(number, one) for number, one in enumerate(task.data or []) if _defines(one)]
    if not found:
        return None
    if len(found) > 1:
        raise BadConfig(f"{field}: has {len(found)} .yaml files, and a task is defined by one")
    number, file = found[0]
    named = f"{field}[{number}].uri"
    if file.split is not None:
        raise BadConfig(f"{field}[{number}].split: a .yaml file defines the task and has no rows: leave split out")
    text = text_file.read(file.uri, named, cache, commits, most=task_file.MOST_BYTES, say=say)
    try:
        task_file.read(text)
    except task_file.BadTaskFile as error:
        raise BadConfig(f"{named}: {file.uri}: {error}") from None
    return text


def _copied(task: KnownTask, harness: Harness, workspace: Workspace, say: Say, check: Callable[[], None]) -> CopiedTask:
    cache, commits = workspace.fetched_data, workspace.fetched_commits
    field = f"evaluation.tasks[{task.number}]"
    rows: dict[str, list[SourceFile]] = {}
    if task.described.rows is None:
        for number, one in enumerate(task.asked.data or []):
            if not _defines(one):
                own = rows.setdefault(one.split or task.described.judged, [])
                own += _files(Source(uri=one.uri), f"{field}.data[{number}].uri", cache, commits, say)
        if unknown := sorted(set(rows) - set(task.described.splits)):
            needed = ", ".join(task.described.splits)
            raise BadConfig(f"{field}.data: no rows of split {unknown[0]} are needed: the task needs {needed}")
    else:
        for split in task.described.splits:
            rows[split] = _of_hub(task.described.rows, split, field, cache, commits, say)
    say(f"task {task.asked.name}: copying the rows of {', '.join(rows)}")
    check()
    paths = {split: [file.path for file in files] for split, files in rows.items()}
    prefix = f"task-{task.asked.name}-"
    try:
        copied = harness.copy(task.wanted, paths, workspace.evaluation_data, prefix, task.asked.limit)
    except Refused as error:
        raise BadData(f"{task.field}: {error}") from None
    told = [_told(file, split) for split, files in rows.items() for file in files]
    return CopiedTask(task, copied, told)


def _of_hub(rows: Rows, split: str, field: str, cache: Path, commits: Path, say: Say) -> list[SourceFile]:
    whole = f"hf://datasets/{rows.dataset}"
    if rows.files is None:
        source = Source(uri=whole, config=rows.config, split=split, revision=rows.revision)
        return _files(source, field, cache, commits, say)
    if split not in rows.files:
        raise BadConfig(f"{field}: the task names files of {', '.join(rows.files)}, and judges the split {split}")
    sources = [Source(uri=f"{whole}/{name}", revision=rows.revision) for name in rows.files[split]]
    return [file for source in sources for file in _files(source, field, cache, commits, say)]


def _files(source: Source, field: str, cache: Path, commits: Path, say: Say) -> list[SourceFile]:
    if uris.parse(source.uri).scheme == "hf":
        return hub_files(source, field, AS_IT_IS, cache, commits, say)
    return data_files(source.uri, field, cache, say)


def _told(file: SourceFile, split: str) -> dict[str, Any]:
    return {"name": file.name, "split": split, "sha256": artifact.hash_file(file.path).sha256} | dict(file.origin)
