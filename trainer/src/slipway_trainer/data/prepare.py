"""The step `prepare`: data is checked, compared with what is held out, and tokenised once.

It writes into the workspace alone, each part by an atomic rename and `prepare.json` last. Killed at any moment and
started again, it ends with the same bytes; started again after it has ended, it checks what is there and does nothing.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from slipway_core.plan import Plan
from slipway_core.protocol import artifact
from slipway_core.protocol.step_result import StepResult
from slipway_core.protocol.workspace import Workspace
from slipway_core.resources import uris
from slipway_core.resources.stage import Stage
from slipway_trainer.batches.shards import Shards, ShardWriter
from slipway_trainer.data import held_out, inputs, parallel, rows, validation_split
from slipway_trainer.data.encode import Counts, Encoder, Split
from slipway_trainer.data.held_out import HeldOut, Overlaps
from slipway_trainer.data.inputs import Inputs, StageInputs
from slipway_trainer.data.rows import Block
from slipway_trainer.data.scan import Objective
from slipway_trainer.fetching import stored_model
from slipway_trainer.model import adapter_targets
from slipway_trainer.model.model_folder import model_folder
from slipway_trainer.step import disk_space, machine
from slipway_trainer.step.errors import BadConfig, BadData, BadModel, DamagedShard
from slipway_trainer.step.fence import Fence
from slipway_trainer.step.files import replace_folder, write_atomically
from slipway_trainer.step.progress import Reporter
from slipway_trainer.tokens import chat_templates, tokenizer

VERSION = 1
SMALL_BYTES = 8 << 20
"""Below it a second process costs more time than it saves."""
TOKENIZER_CHARACTERS = 32 << 20
"""Of which a tokenizer is trained at most, in even shares of all data; more makes it slower and no better."""
SPACE_PER_BYTE, SPARE_BYTES = 1.5, 64 << 20
"""A byte of text becomes at most about half a token, of 2 or 4 bytes and one for its mask."""
SAY_SECONDS = 10.0

METRICS = 40
"""Of all stages together that the result names."""

Say = Callable[[str], None]


def run(
    plan: Plan, workspace: Workspace, *, attempt: int, workers: int | None = None, say: Say | None = None
) -> StepResult:
    """Prepares the data of all stages and of the evaluation, and the tokenizer.

    Args:
        workers: processes; as many as there are processors when None, one for little data. It changes no byte.
        say: told what goes on, a line at a time.

    Raises:
        BadConfig, BadData, BadModel: the plan, a row or the base model is wrong; field, or file and line, are named.
        Overlap: held-out data stands in the training data.
        NoSpace: the disk is too small for what will be written.
        FetchFailed: an object store or the hub does not answer; another attempt goes on with what was fetched.
    """
    reporter = Reporter("prepare")
    reporter.serve()
    try:
        say = say or reporter.say
        if (report := finished(plan, workspace, say)) is None:
            report = _Preparation(plan, workspace, Fence(workspace.fence("prepare"), attempt), workers, say).run()
        return StepResult(step="prepare", attempt=attempt, metrics=_metrics(report))
    finally:
        reporter.close()


def finished(plan: Plan, workspace: Workspace, say: Say) -> dict[str, Any] | None:
    """Returns the report of a preparation that has ended and of which every byte is still there; else None."""
    try:
        report = json.loads(workspace.prepared.read_text(encoding="utf-8"))
        if report["version"] != VERSION or report["plan_digest"] != plan.digest:
            return None
        for stage, splits in report["stages"].items():
            for split, details in splits.items():
                found = Shards.open(workspace.stage(stage).data(split)).digest
                if found != details["digest"]:
                    raise DamagedShard(f"{stage}/{split} has the digest {found} and {details['digest']} was written")
        if _folder_digest(workspace.tokenizer) != report["tokenizer"]["digest"]:
            raise DamagedShard(f"{workspace.tokenizer} was changed")
        for name, digest in report["evaluation"]["copies"].items():
            if artifact.hash_file(workspace.evaluation_data / name).sha256 != digest:
                raise DamagedShard(f"{workspace.evaluation_data / name} was changed")
        if plan.model.from_ is not None and uris.parse(plan.model.from_).remote:
            model_folder(plan.model.from_, fetched=workspace.fetched_models)
    except FileNotFoundError:
        return None
    except (DamagedShard, KeyError, ValueError, OSError) as error:
        say(f"what was prepared before is damaged and is made again: {error}")
        return None
    say(f"nothing to do: the data was prepared before ({report['digest']})")
    return report


class _Preparation:
    def __init__(self, plan: Plan, workspace: Workspace, fence: Fence, workers: int | None, say: Say) -> None:
        self.plan = plan
        self.workspace = workspace
        self.fence = fence
        self.workers = workers
        self.say = say
        self.started = time.monotonic()

    def run(self) -> dict[str, Any]:
        self._fetch_base()
        self._check_lengths()
        self._check_targets()
        self._clear()
        found = inputs.collect(self.plan, self.workspace.fetched_data, self.say)
        check_space(self.workspace.root, needed=needed_bytes(found))
        workers = self._workers(found)
        held = held_out.read(found)
        keys, overlaps, characters = self._scan(found, held, workers)
        words, template = self._tokenizer(found, characters)
        tokenizer.save(words, self._temporary(self.workspace.tokenizer))
        self._publish(self.workspace.tokenizer)
        stages = {
            stage.name: self._stage(stage, found.stages[stage.name], keys, words, workers) for stage in self.plan.stages
        }
        self.fence.check()
        report = {
            "version": VERSION,
            "plan_digest": self.plan.digest,
            "stages": stages,
            "evaluation": self._evaluation(found, held),
            "prompts": {
                "prompts": len(held.prompts),
                "recall": sum(prompt.recall for prompt in held.prompts),
                "recall_overlap": overlaps.recall_overlap,
                "files": [entry for source in found.prompts for entry in source.to_documents()],
            },
            "tokenizer": self._tokenizer_report(words, template),
        }
        report["digest"] = _report_digest(report)
        report["seconds"] = round(time.monotonic() - self.started, 3)
        self.fence.check()
        write_atomically(self.workspace.prepared, json.dumps(report, ensure_ascii=False, indent=2) + "\n")
        shutil.rmtree(self.workspace.fetched_data, ignore_errors=True)
        self._say_stages(stages)
        return report

    def _check_lengths(self) -> None:
        longest, where = self._longest()
        for index, stage in enumerate(self.plan.stages):
            field = f"stages[{index}] ({stage.name})"
            if longest is not None and stage.max_length > longest:
                raise BadConfig(
                    f"{field}: maxLength {stage.max_length} is above the {longest} tokens that the model takes "
                    f"({where}). Set maxLength to {longest} or less"
                )
            validation = stage.data.validation
            measured = validation is not None and (validation.data or validation.fraction)
            if not measured and (stage.select == "Best" or stage.early_stop is not None):
                raise BadConfig(f"{field}: select: Best and earlyStop need validation data, and its fraction is 0")

    def _check_targets(self) -> None:
        """A target that is not there would only be found when the stages before have been trained."""
        if any(stage.adapter is not None for stage in self.plan.stages):
            new = self.plan.model.scratch is not None
            names = list(adapter_targets.NEW_MODEL) if new else adapter_targets.of_folder(self._base())
            for stage in self.plan.stages:
                adapter_targets.check(stage, names)

    def _longest(self) -> tuple[int | None, str]:
        """Returns how many tokens the model takes, None when it does not say, and where that stands."""
        if self.plan.model.scratch is not None:
            return self.plan.model.scratch.max_length, "model.scratch.maxLength"
        path = self._base() / "config.json"
        try:
            config = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise BadModel(f"model.from: {path.parent} has no config.json, so it is no model of Hugging Face") from None
        except ValueError as error:
            raise BadModel(f"model.from: {path}: is not JSON: {error}") from None
        for name in ("max_position_embeddings", "n_positions", "max_sequence_length", "seq_length"):
            for place in (config, config.get("text_config") or {}):
                if isinstance(place.get(name), int):
                    return place[name], f"{name} in {path}"
        return None, ""

    def _fetch_base(self) -> None:
        uri = self.plan.model.from_
        if uri is not None and uris.parse(uri).remote:
            stored_model.fetch(uri, "model.from", self.workspace.fetched_models, say=self.say, check=self.fence.check)

    def _base(self) -> Path:
        assert self.plan.model.from_ is not None
        return model_folder(self.plan.model.from_, fetched=self.workspace.fetched_models)

    def _tokenizer_folder(self, uri: str, field: str) -> Path:
        if not uris.parse(uri).remote:
            return model_folder(uri, field)
        return stored_model.fetch(uri, field, self.workspace.fetched_data / "tokenizer", weights=False, say=self.say)

    def _clear(self) -> None:
        """Removes what an earlier attempt left: without prepare.json nothing of it counts."""
        self.fence.check()
        self.workspace.prepared.unlink(missing_ok=True)
        for folder in self.workspace.root.glob(".tokenizer.tmp-*"):
            shutil.rmtree(folder, ignore_errors=True)
        for stage in self.plan.stages:
            for folder in self.workspace.stage(stage.name).data("train").parent.glob("*"):
                shutil.rmtree(folder, ignore_errors=True)

    def _workers(self, found: Inputs) -> int:
        if self.workers is not None:
            return self.workers
        return 1 if found.text_bytes < SMALL_BYTES else machine.available_processors()

    def _scan(
        self, found: Inputs, held: HeldOut, workers: int
    ) -> tuple[dict[tuple[Objective, Path], np.ndarray], Overlaps, int]:
        """Checks every row. Returns the keys of the documents by kind and file, the overlaps, and the characters."""
        files = found.training_files()
        self.say(f"checking {len(files)} file(s), {sum(file.size for _, file in files) / 1e6:.1f} MB")
        overlaps, characters = Overlaps(held), 0
        keys: dict[tuple[Objective, Path], list[np.ndarray]] = {
            (objective, file.source.path): [] for objective, file in files
        }
        paths: list[tuple[tuple[Objective, Path], str]] = []

        def jobs() -> Iterator[tuple[Objective, Block]]:
            for objective, file in files:
                for block in file.blocks():
                    paths.append(((objective, file.source.path), file.name))
                    yield objective, block

        counted = _Counted("checked", self.say)
        for number, findings in enumerate(parallel.ordered(held.scan(), jobs(), workers=workers)):
            place, name = paths[number]
            counted.add(findings.rows)
            keys[place].append(findings.keys)
            characters += findings.characters
            overlaps.add(name, findings.matches, findings.wordings)
        overlaps.refuse()
        return {p: np.concatenate([np.zeros(0, np.uint64), *k]) for p, k in keys.items()}, overlaps, characters

    def _tokenizer(self, found: Inputs, characters: int) -> tuple[Any, str]:
        scratch, style = self.plan.model.scratch, self.plan.model.chat_template
        if scratch is None:
            words = tokenizer.from_folder(self._base(), "model.from")
        elif scratch.tokenizer.from_ is not None:
            field = "model.scratch.tokenizer.from"
            words = tokenizer.from_folder(self._tokenizer_folder(scratch.tokenizer.from_, field), field)
            words.model_max_length = scratch.max_length
        else:
            assert scratch.tokenizer.train is not None
            size = scratch.tokenizer.train.vocab_size
            self.say(f"training a tokenizer of {size} entries")
            texts = _tokenizer_texts(found, style, characters)
            words = tokenizer.train(texts, vocabulary=size, max_length=scratch.max_length)
            if len(words) < size:
                self.say(f"the data holds enough repeated text for {len(words)} entries only")
        template = tokenizer.give_template(words, style)
        if any(stage.objective == "Chat" for stage in self.plan.stages):
            tokenizer.renderer(words).turn_end()
        return words, template

    def _stage(
        self,
        stage: Stage,
        found: StageInputs,
        keys: dict[tuple[Objective, Path], np.ndarray],
        words: Any,
        workers: int,
    ) -> dict[str, Any]:
        self.say(f"tokenising the data of {stage.name}")
        split = self._split(stage, found, keys)
        encoder = Encoder(
            tokenizer_json=words.backend_tokenizer.to_str(),
            renderer=tokenizer.renderer(words),
            objective=stage.objective,
            max_length=stage.max_length,
            eos_id=words.eos_token_id,
            split=split,
        )
        names = ["train", *(["validation"] if split or found.validation else [])]
        with ExitStack() as stack:
            writers = {name: stack.enter_context(self._writer(stage, name, len(words))) for name in names}
            counts = self._encode(encoder, [(source, "train") for source in found.train], writers, workers)
            if found.validation:
                validation = [(source, "validation") for source in found.validation]
                counts |= self._encode(encoder, validation, writers, workers)
            for name in names:
                _refuse_empty(stage.name, name, counts[name], stage.max_length)
            files = {
                "train": found.train,
                "validation": found.validation or found.train,
            }
            return {
                name: asdict(counts[name])
                | {"digest": writers[name].finish(self.fence.check)}
                | {"files": [entry for source in files[name] for entry in source.to_documents()]}
                | ({"duplicates": self._duplicates(found, keys)} if name == "train" else {})
                for name in names
            }

    def _writer(self, stage: Stage, split: str, vocabulary: int) -> ShardWriter:
        return ShardWriter(
            self.workspace.stage(stage.name).data(split),
            vocabulary=vocabulary,
            masked=stage.objective == "Chat",
            attempt=self.fence.attempt,
        )

    def _encode(
        self, encoder: Encoder, found: list[tuple[inputs.Input, str]], writers: dict[str, ShardWriter], workers: int
    ) -> dict[str, Counts]:
        """Writes the rows of some sources; those that are set aside go to validation with a weight of one."""
        counts = {name: Counts() for name in writers}
        origin: list[tuple[inputs.Input, str]] = []

        def blocks() -> Iterator[Block]:
            for source, name in found:
                for file in source.files:
                    for block in file.blocks():
                        origin.append((source, name))
                        yield block

        progress = _Counted("tokenised", self.say)
        for number, outputs in enumerate(parallel.ordered(encoder, blocks(), workers=workers)):
            source, name = origin[number]
            progress.add(sum(counted.rows for _, counted in outputs))
            for split, weight, (encoded, counted) in zip(
                (name, "validation"), (source.weight, 1.0), outputs, strict=True
            ):
                if counted.rows:
                    writers[split].add(encoded.tokens, encoded.lengths, weight, encoded.learn)
                    counts[split].add(counted)
        return {name: counted for name, counted in counts.items() if counted.rows}

    @staticmethod
    def _split(stage: Stage, found: StageInputs, keys: dict[tuple[Objective, Path], np.ndarray]) -> Split | None:
        fraction = stage.data.validation.fraction if stage.data.validation else None
        if not fraction:
            return None
        try:
            threshold = validation_split.threshold(_keys(found, keys), fraction=fraction, seed=stage.seed)
        except ValueError as error:
            raise BadData(f"stage {stage.name}: data.validation.fraction {fraction}: {error}") from None
        return Split(threshold, stage.seed)

    @staticmethod
    def _duplicates(found: StageInputs, keys: dict[tuple[Objective, Path], np.ndarray]) -> int:
        """Rows that say the same as one before them. They stay: repeating a row is a way to give it weight."""
        own = _keys(found, keys)
        return len(own) - len(np.unique(own))

    def _evaluation(self, found: Inputs, held: HeldOut) -> dict[str, Any]:
        copies = held_out.copy(held, self.workspace)
        return {
            "documents": len(held.documents),
            "bytes": sum(len(document.row.text.encode()) for document in held.documents),
            "digest": "sha256:" + hashlib.sha256(json.dumps(copies, sort_keys=True).encode()).hexdigest(),
            "copies": copies,
            "files": [entry for source in found.evaluation for entry in source.to_documents()],
        }

    def _tokenizer_report(self, words: Any, template: str) -> dict[str, Any]:
        scratch = self.plan.model.scratch
        asked = scratch.tokenizer.train.vocab_size if scratch and scratch.tokenizer.train else None
        return {
            "digest": _folder_digest(self.workspace.tokenizer),
            "vocabulary": len(words),
            "asked_vocabulary": asked,
            "chat_template": template,
            "end_of_turn": tokenizer.end_of_turn(words),
        }

    def _temporary(self, folder: Path) -> Path:
        return folder.with_name(f".{folder.name}.tmp-{self.fence.attempt}")

    def _publish(self, folder: Path) -> None:
        self.fence.check()
        replace_folder(self._temporary(folder), folder)

    def _say_stages(self, stages: dict[str, Any]) -> None:
        for stage, splits in stages.items():
            for split, counts in splits.items():
                notes = [
                    f"{counts[name]} {what}"
                    for name, what in (
                        ("split", "longer than maxLength and split"),
                        ("truncated", "cut at the last answer that fits into maxLength"),
                        ("skipped", f"skipped, no answer fits: {', '.join(counts['skipped_lines'][:3])} …"),
                        ("unanswered", "with turns after the last answer, which were left out"),
                        ("duplicates", "that say the same as another row"),
                    )
                    if counts.get(name)
                ]
                detail = f" ({'; '.join(notes)})" if notes else ""
                self.say(f"{stage}/{split}: {counts['rows']} rows, {counts['tokens']} tokens{detail}")


class _Counted:
    """Says now and then how many rows are done."""

    def __init__(self, what: str, say: Say) -> None:
        self._what, self._say, self._rows, self._said = what, say, 0, time.monotonic()

    def add(self, rows: int) -> None:
        self._rows += rows
        if time.monotonic() - self._said >= SAY_SECONDS:
            self._said = time.monotonic()
            self._say(f"{self._what} {self._rows:,} rows")


def needed_bytes(found: Inputs) -> int:
    """Returns about how many bytes will be written."""
    return int(found.text_bytes * SPACE_PER_BYTE) + SPARE_BYTES


def check_space(folder: Path, *, needed: int) -> None:
    """Raises NoSpace that says what is needed and what is free."""
    disk_space.require(
        folder,
        needed,
        lambda free: (
            f"preparing the data needs about {needed / 1e9:.1f} GB and {free / 1e9:.1f} GB are free. "
            "Free space there, or give the run a workspace on a larger disk"
        ),
    )


def _tokenizer_texts(found: Inputs, style: tokenizer.Style, characters: int) -> Iterator[str]:
    """Yields every distinct text of the training data once, or an even share of them when there is very much."""
    share = min(1.0, TOKENIZER_CHARACTERS / max(1, characters))
    limit, seen = int(share * (1 << 64)), set[int]()
    frame = chat_templates.words("ChatML" if style == "Auto" else style)

    def distinct(text: str) -> bool:
        key = validation_split.key(text)
        if key >= limit or key in seen:
            return False
        seen.add(key)
        return True

    for objective, file in found.training_files():
        for block in file.blocks():
            if objective == "CausalLM":
                yield from (row.text for row in rows.documents(block) if distinct(row.text))
                continue
            for row in rows.conversations(block):
                texts = [turn.content for turn in row.turns if distinct(turn.content)]
                yield from texts
                if texts:
                    yield frame


def _keys(found: StageInputs, keys: dict[tuple[Objective, Path], np.ndarray]) -> np.ndarray:
    return np.concatenate([keys[found.objective, f.source.path] for source in found.train for f in source.files])


def _refuse_empty(stage: str, split: str, counts: Counts | None, max_length: int) -> None:
    if counts is None or counts.rows == 0:
        raise BadData(f"stage {stage}: its {split} data holds no row")
    if counts.documents == 0:
        raise BadData(
            f"stage {stage}: no answer of the {counts.rows} conversations of its {split} data ends within maxLength "
            f"{max_length} ({', '.join(counts.skipped_lines[:3])}). Raise maxLength"
        )


def _folder_digest(folder: Path) -> str:
    return artifact.digest_of(artifact.hash_folder(folder))


def _report_digest(report: dict[str, Any]) -> str:
    """Covers what was made, not where the sources lie or how long it took."""
    parts = {
        "stages": {
            f"{stage}/{split}": details["digest"]
            for stage, splits in report["stages"].items()
            for split, details in splits.items()
        },
        "tokenizer": report["tokenizer"]["digest"],
        "evaluation": report["evaluation"]["digest"],
    }
    return "sha256:" + hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _metrics(report: dict[str, Any]) -> dict[str, float]:
    """What a status shows: sizes, and how many rows were not learned as they stand in their file."""
    splits = [(f"{stage}_{split}", d) for stage, found in report["stages"].items() for split, d in found.items()]
    unfit = [
        (f"{place}_{name}", float(details[name]))
        for place, details in splits
        for name in ("split", "truncated", "skipped", "unanswered")
        if details[name]
    ]
    sizes = [(f"{place}_{name}", float(details[name])) for place, details in splits for name in ("documents", "tokens")]
    # A result has 4 KiB, and what was left out is worth more there than the sizes; the report has all of it.
    return dict([*unfit, *sizes][:METRICS]) | {
        "vocabulary": float(report["tokenizer"]["vocabulary"]),
        "evaluation_documents": float(report["evaluation"]["documents"]),
        "recall_overlap": float(report["prompts"]["recall_overlap"]),
    }
