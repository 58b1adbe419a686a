"""The step `prepare`: data is checked, compared with what is held out, and tokenised once.

It writes into the workspace alone, each part by an atomic rename and `prepare.json` last. Killed at any moment and
started again, it ends with the same bytes; started again after it has ended, it checks what is there and does nothing.
"""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from slipway_core.plan import Plan
from slipway_core.protocol.step_result import StepResult
from slipway_core.protocol.workspace import Workspace
from slipway_core.resources import uris
from slipway_core.resources.status import bounded_warnings
from slipway_fetching import model_cache
from slipway_host.files import json_lines, write_atomically
from slipway_host.limits import usable_cores
from slipway_trainer.data import gate_data, inputs
from slipway_trainer.data import held_out as held_out_data
from slipway_trainer.data.inputs import Inputs
from slipway_trainer.judge import key as judge_key
from slipway_trainer.model import lineage
from slipway_trainer.model.model_folder import model_folder
from slipway_trainer.prepare import (
    base_training,
    conversation_check,
    earlier_preparation,
    gate_power,
    gate_rows,
    harness_tasks,
    held_out_copies,
    judge_questions,
    preflight,
    prepare_report,
    prepared_size,
    prompt_check,
    stage_shards,
    tokenizer_of_run,
    training_scan,
    unused_tokens,
)
from slipway_trainer.prepare.duplicates_file import DuplicatesFile
from slipway_trainer.step import disk_space
from slipway_trainer.step.fence import Fence
from slipway_trainer.step.progress import Reporter, Say
from slipway_trainer.step.requester import requester
from slipway_trainer.tokens import gguf_vocabulary

SMALL_BYTES = 8 << 20
"""Below it a second process costs more time than it saves."""


def run(
    plan: Plan,
    workspace: Workspace,
    *,
    attempt: int,
    held_out: str | None = None,
    workers: int | None = None,
    say: Say | None = None,
) -> StepResult:
    """Prepares the data of all stages and of the evaluation, and the tokenizer.

    Args:
        held_out: digest of the held-out data that an earlier preparation must have to be kept, by the run's record.
        workers: processes; as many as there are processors when None, one for little data. It changes no byte.
        say: told what goes on, a line at a time.

    Raises:
        BadConfig, BadData, BadModel: the plan, a row or the base model is wrong, or the judge's key is; field, or file
            and line, are named.
        Overlap: held-out data stands in the training data.
        NoSpace: the disk is too small for what will be written.
        FetchError: data or base model cannot be fetched; after Unavailable another attempt goes on with what was.
    """
    reporter = Reporter("prepare", kept=lambda: disk_space.taken(workspace.fetched))
    with reporter.at_work():
        say = say or reporter.say
        # First, so that no process that this one starts has it.
        key = judge_key.take(plan)
        report = earlier_preparation.finished(plan, workspace, say, held_out=held_out)
        if report is None:
            fence = Fence(workspace.fence("prepare"), attempt)
            report = _prepare(plan, workspace, fence, workers, say, lambda line: reporter.add_warning(line, say), key)
        return StepResult(
            step="prepare",
            attempt=attempt,
            metrics=prepare_report.metrics(report),
            held_out_digest=report["evaluation"]["digest"],
            held_out_sketch=report["evaluation"].get("sketch"),
            gate_data=gate_data.of_gates(plan, workspace, report["evaluation"]["copies"]),
            training_data=lineage.digests(report),
            # Of an earlier attempt too, which nobody may have heard. A release before this one kept none.
            warnings=bounded_warnings(report.get("warnings", ())) or None,
        )


def _prepare(
    plan: Plan, workspace: Workspace, fence: Fence, workers: int | None, say: Say, tell: Say, key: str | None
) -> dict[str, Any]:
    """Does all of it, from the base model to the report, and returns that.

    Args:
        tell: takes what the run's record has to warn of.
    """
    started = time.monotonic()
    warned: list[str] = []

    def warn(*lines: str) -> None:
        warned.extend(lines)
        for line in lines:
            tell(line)

    warn(*preflight.check_others(plan, key))
    base = _base_model(plan, workspace, fence, say)
    preflight.check(plan, base, say)
    _clear(plan, workspace, fence)

    tasks = harness_tasks.prepare(plan, workspace, preflight.longest(plan, base), say, fence.check)
    found = inputs.collect(plan, workspace.fetched_data, say, commits=workspace.fetched_commits)
    prepared_size.check_space(workspace.root, needed=prepared_size.needed_bytes(found))
    workers = _workers(found) if workers is None else workers
    held = replace(held_out_data.read(found), tasks=harness_tasks.texts(tasks))
    gate_rows.check(plan, held)
    warn(*gate_rows.notes(held))
    held = gate_rows.usable(held)
    learned = base_training.check(plan, base, held, say, warn, pairs=workspace.overlap)
    held = learned.held
    drop = plan.evaluation.on_overlap == "Drop"
    scanned = training_scan.scan(found, held, workers, say, warn, pairs=workspace.overlap, drop=drop)
    held = scanned.held
    if learned.pairs:
        before = workspace.overlap.read_text(encoding="utf-8") if workspace.overlap.exists() else ""
        write_atomically(workspace.overlap, before + json_lines(learned.pairs))

    tools, fetched = scanned.tools or held.has_tools, workspace.fetched_data / "tokenizer"
    made = tokenizer_of_run.make(plan, base, found, scanned.characters, fetched, say, tools=tools)
    if plan.export.gguf != "None":
        gguf_vocabulary.of_tokenizer(made.words, len(made.words), None)
    longest, virtual = preflight.longest(plan, base), plan.virtual_tokens
    prompt_check.check(held, made.words, longest, virtual=virtual)
    warn(*conversation_check.warnings(held, made.words, longest, virtual=virtual))
    made.publish(workspace.tokenizer, fence)
    duplicates = DuplicatesFile(workspace.duplicates, fence.attempt)
    stages: dict[str, Any] = {}
    for stage in plan.stages:
        own = found.stages[stage.name]
        stages[stage.name] = stage_shards.write(
            stage,
            own,
            scanned.keys_of(own),
            scanned.validation_keys_of(own),
            made.words,
            masked=scanned.masks(own),
            forms=scanned.forms_of(own),
            left_out=scanned.left_out[stage.name],
            duplicates=duplicates,
            folder=workspace.stage(stage.name),
            fence=fence,
            workers=workers,
            say=say,
        )

    warn(
        *gate_rows.warnings(plan, held),
        *harness_tasks.warnings(plan, tasks, held.tasks),
        *gate_power.warnings(plan, held, made.words),
    )
    if asked := judge_questions.line(plan, held):
        say(asked)
    if unused := unused_tokens.find(plan, workspace, made.words):
        warn(f"model.addTokens: no training data holds {', '.join(unused)}: nothing is learned of what it says")
    warn(*prepare_report.warnings(plan, stages))
    # Last: of many files there may be many, and the record holds the first.
    warn(*scanned.blank)
    fence.check()
    duplicates.finish()
    write_atomically(workspace.passages, scanned.passages.to_bytes())
    copies = held_out_copies.copy(held, workspace) | harness_tasks.publish(tasks, held.tasks, workspace)
    report = prepare_report.make(
        plan,
        stages=stages,
        evaluation=held_out_copies.documents_report(
            held,
            found,
            copies,
            dropped=scanned.dropped + learned.dropped,
            discounted=scanned.discounted,
            base=learned.report,
            tasks=harness_tasks.report(tasks),
        ),
        prompts=held_out_copies.prompts_report(held, found, scanned.recall_overlap),
        tokenizer=made.to_document(workspace.tokenizer),
        base=lineage.identity(base) if base is not None and not plan.stages else None,
        warnings=warned,
        seconds=time.monotonic() - started,
    )
    fence.check()
    write_atomically(workspace.prepared, json.dumps(report, ensure_ascii=False, indent=2) + "\n")
    shutil.rmtree(workspace.fetched_data, ignore_errors=True)
    for line in prepare_report.lines(stages):
        say(line)
    return report


def _base_model(plan: Plan, workspace: Workspace, fence: Fence, say: Say) -> Path | None:
    """Returns the folder of the base model, which is brought here when it lies elsewhere; None for a new model."""
    uri = plan.model.from_
    if uri is None:
        return None
    if uris.parse(uri).remote:
        model_cache.fetch(uri, requester("model.from"), workspace.fetched_models, say=say, check=fence.check)
    return model_folder(uri, fetched=workspace.fetched_models)


def _clear(plan: Plan, workspace: Workspace, fence: Fence) -> None:
    """Removes what an earlier attempt left: without prepare.json nothing of it counts."""
    fence.check()
    workspace.prepared.unlink(missing_ok=True)
    workspace.overlap.unlink(missing_ok=True)
    workspace.duplicates.unlink(missing_ok=True)
    for file in workspace.root.glob(f".{workspace.duplicates.name}.tmp-*"):
        file.unlink(missing_ok=True)
    for folder in workspace.root.glob(".tokenizer.tmp-*"):
        shutil.rmtree(folder, ignore_errors=True)
    for stage in plan.stages:
        for folder in workspace.stage(stage.name).data("train").parent.glob("*"):
            shutil.rmtree(folder, ignore_errors=True)


def _workers(found: Inputs) -> int:
    return 1 if found.text_bytes < SMALL_BYTES else usable_cores()
