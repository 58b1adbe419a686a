"""The data of one stage as tokens: read once more, divided into training and validation data, and written as shards."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict
from typing import Any

import numpy as np

from slipway_core.protocol.workspace import StageFolder
from slipway_core.resources.stage import Stage
from slipway_trainer.batches.shards import ShardWriter
from slipway_trainer.data import inputs, learned_validation, parallel, validation_split
from slipway_trainer.data.encode import Encoder, Job, Split
from slipway_trainer.data.encoded import Counts
from slipway_trainer.data.inputs import FileKey, Input, StageInputs
from slipway_trainer.prepare import source_shares
from slipway_trainer.prepare.duplicates_file import DuplicatesFile, DuplicatesOfStage
from slipway_trainer.prepare.marked_rows import LeftOut
from slipway_trainer.prepare.row_progress import RowProgress
from slipway_trainer.prepare.source_shares import SourceCounts
from slipway_trainer.step.errors import BadData
from slipway_trainer.step.fence import Fence
from slipway_trainer.step.progress import Say
from slipway_trainer.tokens import tokenizer


def write(
    stage: Stage,
    found: StageInputs,
    keys: np.ndarray,
    validation_keys: np.ndarray,
    words: Any,
    *,
    masked: bool,
    forms: Mapping[FileKey, str],
    left_out: LeftOut | None,
    duplicates: DuplicatesFile,
    folder: StageFolder,
    fence: Fence,
    workers: int,
    say: Say,
) -> dict[str, Any]:
    """Writes the shards of a stage. Returns what the report says of each split.

    Args:
        keys: of its training documents, those that are left out among them.
        validation_keys: of its validation documents, where they are of their own.
        words: the run's tokenizer.
        masked: whether some of its tokens are not learned.
        forms: of the rows of its files.
        left_out: of its training documents, what is not learned since others say the same.
        duplicates: is told of each of them.

    Raises BadData when a row is bad, or when a split ends up with nothing to learn.
    """
    say(f"tokenising the data of {stage.name}")
    keys = keys[left_out.stays] if left_out is not None else keys
    try:
        encoder = encoder_of(stage, keys, words, masked=masked)
    except BadData as error:
        raise BadData(f"{error}{_gone(stage, left_out)}") from None
    split = encoder.split
    sources = {"train": found.train}
    if split or found.validation:
        sources["validation"] = found.validation or found.train
    learned_too = learned_validation.count(validation_keys, keys)
    with ExitStack() as stack:
        writers = {
            name: stack.enter_context(
                ShardWriter(
                    folder.data(name),
                    ids=tokenizer.id_count(words),
                    masked=masked,
                    attempt=fence.attempt,
                )
            )
            for name in sources
        }
        told = duplicates.of_stage(stage.name, left_out)
        by_source = {source.field: SourceCounts() for source in (*found.train, *found.validation)}
        counts = _tokenise(encoder, _jobs(found.train, left_out), "train", writers, by_source, workers, say, told)
        if found.validation:
            jobs = _jobs(found.validation)
            counts |= _tokenise(encoder, jobs, "validation", writers, by_source, workers, say, told)
        for name in sources:
            refuse_empty(stage, name, counts.get(name))
        if stage.data.mixed:
            say(f"mixing the sources of {stage.name}")
        shares = source_shares.find(stage, found.train, by_source, writers["train"].lengths)
        if shares.mixture is not None:
            writers["train"].mix(shares.mixture)
        return {
            name: asdict(counts[name])
            | {"digest": writers[name].finish(fence.check)}
            | {"files": [entry for source in sources[name] for entry in source.to_documents(forms)]}
            | ({"duplicates": _duplicates(keys)} | told.report | {"sources": shares.report} if name == "train" else {})
            | ({"learned_too": learned_too} if name == "validation" and found.validation else {})
            for name in sources
        }


def encoder_of(stage: Stage, keys: np.ndarray, words: Any, *, masked: bool) -> Encoder:
    """Returns what makes tokens of a stage's rows. The arguments are those of `write`.

    Raises BadData when the data cannot be divided as the plan asks.
    """
    return Encoder(
        tokenizer_json=words.backend_tokenizer.to_str(),
        renderer=tokenizer.renderer(words),
        objective=stage.objective,
        max_length=stage.max_length,
        eos_id=words.eos_token_id,
        masked=masked,
        too_long=stage.too_long,
        last_answer=stage.learn == "LastAnswer",
        split=_split(stage, keys),
    )


def _gone(stage: Stage, left_out: LeftOut | None) -> str:
    """Returns what is to be added where too few rows stay."""
    gone = int(left_out.found.left_out.sum()) if left_out is not None else 0
    return f". data.deduplicate: {stage.data.deduplicate} left out {gone} more" if gone else ""


def _split(stage: Stage, keys: np.ndarray) -> Split | None:
    fraction = stage.data.validation.fraction if stage.data.validation else None
    if not fraction:
        return None
    keys = validation_split.prompts(keys) if stage.objective == "Preference" else keys
    try:
        threshold = validation_split.threshold(keys, fraction=fraction, seed=stage.seed)
    except ValueError as error:
        raise BadData(f"stage {stage.name}: data.validation.fraction {fraction}: {error}") from None
    return Split(threshold, stage.seed)


def _tokenise(
    encoder: Encoder,
    jobs: Iterable[tuple[Input, Job]],
    split: str,
    writers: dict[str, ShardWriter],
    by_source: dict[str, SourceCounts],
    workers: int,
    say: Say,
    told: DuplicatesOfStage,
) -> dict[str, Counts]:
    """Writes the rows of some sources to a split; those that are set aside go to validation with a weight of one."""
    counts = {name: Counts() for name in writers}
    progress = RowProgress("tokenised", say)
    for source, (outputs, left) in parallel.tagged(encoder.deduplicated, jobs, workers=workers):
        progress.add(sum(counted.rows for _, counted in outputs) + len(left))
        told.add(left)
        by_source[source.field].add(outputs[0][1])
        for name, weight, (encoded, counted) in zip((split, "validation"), (source.weight, 1.0), outputs, strict=True):
            if counted.rows:
                writers[name].add(encoded.tokens, encoded.lengths, weight, encoded.learn, encoded.chosen)
                counts[name].add(counted)
    return {name: counted for name, counted in counts.items() if counted.rows}


def _jobs(found: Iterable[Input], left_out: LeftOut | None = None) -> Iterator[tuple[Input, Job]]:
    """Yields every block with the source that it is of; which of its rows are left out was found block by block."""
    if left_out is None:
        yield from ((source, Job(block)) for source, block in inputs.blocks(found))
        return
    for (source, block), own in zip(inputs.blocks(found), left_out.blocks(), strict=True):
        yield source, Job(block, own)


def refuse_empty(stage: Stage, split: str, counts: Counts | None) -> None:
    """Raises BadData when a split of a stage ends up with nothing to learn; `counts` is None where it has no row."""
    if counts is None or counts.rows == 0:
        validation = stage.data.validation.data if stage.data.validation is not None and split != "train" else None
        uris = ", ".join(source.uri for source in validation or stage.data.train)
        raise BadData(f"stage {stage.name}: its {split} data holds no row that says anything ({uris}). Give it some")
    if counts.documents == 0 and counts.dropped:
        raise BadData(
            f"stage {stage.name}: all {counts.rows} rows of its {split} data are longer than maxLength "
            f"{stage.max_length}, and tooLong: {stage.too_long} leaves them out. Raise maxLength"
        )
    if counts.documents == 0:
        raise BadData(
            f"stage {stage.name}: no answer of the {counts.rows} conversations of its {split} data ends within "
            f"maxLength {stage.max_length} ({', '.join(counts.skipped_lines[:3])}). Raise maxLength"
        )


def _duplicates(keys: np.ndarray) -> int:
    """Rows that say the same as one before them. They stay: repeating a row is a way to give it weight."""
    return len(keys) - len(np.unique(keys))
