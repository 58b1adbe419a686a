"""The pass over all training data before any of it is tokenised: every row is checked, what is held out is looked for,
and every document gets the key by which it is divided and counted later.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from slipway_core.resources.data import Deduplicate
from slipway_host.files import json_lines, write_atomically
from slipway_trainer.data import blank_rows, contamination, parallel, passage_sample
from slipway_trainer.data.boilerplate import COMMON_DOCUMENTS
from slipway_trainer.data.contamination import Overlaps
from slipway_trainer.data.formats.row_format import Format
from slipway_trainer.data.held_out import HeldOut
from slipway_trainer.data.inputs import FileKey, InputFile, Inputs, StageInputs
from slipway_trainer.data.passage_sample import PassageSample
from slipway_trainer.data.reading.block import Block
from slipway_trainer.data.scan import Findings, Objective, Scan
from slipway_trainer.prepare.marked_rows import LeftOut, MarkedRows
from slipway_trainer.prepare.row_progress import RowProgress
from slipway_trainer.step.progress import Say

_MOST_UNUSED = 8
"""Fields of a file that are named."""


@dataclass(frozen=True)
class Scanned:
    """What is known of the training data."""

    keys: dict[tuple[Objective, FileKey], np.ndarray]
    """uint64 [rows] by kind of row and file: equal for equal documents."""
    forms: dict[tuple[Objective, FileKey], Format]
    """Of the rows of each file."""
    prompted: frozenset[tuple[Objective, FileKey]]
    """Files of which some texts begin with what is seen and not learned."""
    characters: int
    held: HeldOut
    """What is held out and stands in none of it."""
    dropped: int
    """Held-out documents and conversations that were left out for that."""
    discounted: int
    """Held-out texts that share boilerplate with it, and no more."""
    passages: PassageSample
    """Of all of it."""
    recall_overlap: int
    """Prompts that test recall, and whose answers the training data holds."""
    left_out: dict[str, LeftOut | None]
    """By stage, the rows that it does not learn since others say the same; None where it learns all."""
    blank: tuple[str, ...]
    """A sentence for each file of which rows that say nothing are left out."""
    tools: bool
    """Whether some of its conversations have tools, or call some."""

    def keys_of(self, stage: StageInputs) -> np.ndarray:
        """Returns the keys of all that a stage's sources hold, in the order in which they are read."""
        return np.concatenate([self.keys[place] for place in stage.train_places])

    def validation_keys_of(self, stage: StageInputs) -> np.ndarray:
        """Returns the same of a stage's validation data of its own: none where a part is set aside."""
        return np.concatenate([np.zeros(0, np.uint64), *(self.keys[place] for place in stage.validation_places)])

    def forms_of(self, stage: StageInputs) -> dict[FileKey, str]:
        """Returns the form of the rows of each file of a stage."""
        return {key: form for (objective, key), form in self.forms.items() if objective == stage.objective}

    def masks(self, stage: StageInputs) -> bool:
        """Whether some tokens of a stage's data are not learned."""
        return stage.objective != "CausalLM" or any(
            (stage.objective, file.key) in self.prompted for file in stage.files
        )


def scan(
    found: Inputs, held: HeldOut, workers: int, say: Say, warn: Say, *, pairs: Path, drop: bool = False
) -> Scanned:
    """Returns what is known of the training data once all of it was looked at.

    Args:
        warn: told which held-out data is left out.
        pairs: the file that gets what of the held-out data stands in the training data, where some does.
        drop: leaves such documents out of what is held out.

    Raises BadData for the first bad row, and Overlap when held-out data stands in the training data.
    """
    files = found.training_files()
    if files:
        say(f"checking {len(files)} file(s), {sum(file.size for _, file in files) / 1e6:.1f} MB")
    below = passage_sample.below(sum(file.text_bytes for _, file in files))
    look = contamination.scan_for(held, below)
    overlaps, passages, characters, tools = Overlaps(held, look.held), passage_sample.Collector(below), 0, False
    keys: dict[tuple[Objective, FileKey], list[np.ndarray]] = {_place(*one): [] for one in files}
    unused: dict[tuple[tuple[Objective, FileKey], str], Counter[str]] = defaultdict(Counter)
    blank: dict[tuple[tuple[Objective, FileKey], str], int] = defaultdict(int)
    prompted: set[tuple[Objective, FileKey]] = set()
    forms: dict[tuple[Objective, FileKey], Format] = {}
    progress = RowProgress("checked", say)
    jobs = _jobs(files, found.deduplicated())
    marked = MarkedRows(pairs.parent)
    for (place, name), findings in parallel.tagged(look.marked, jobs, workers=workers):
        progress.add(findings.rows)
        forms[place] = findings.form
        keys[place].append(findings.keys)
        characters += findings.characters
        tools |= findings.tools
        overlaps.add(name, findings.held, findings.wordings)
        passages.add(findings.passages)
        unused[place, name].update(findings.unused)
        blank[place, name] += findings.blank
        prompted |= {place} if findings.prompted else set()
        if findings.marks is not None:
            marked.add(place, findings.marks)
    contamination.look_again(overlaps, partial(_found_again, files, workers, say))
    if found_pairs := overlaps.pairs:
        write_atomically(pairs, json_lines(found_pairs))
    overlaps.refuse(documents_too=not drop)
    apart = overlaps.apart(drop=drop)
    for was, is_, what in (
        (held.documents, apart.documents, "documents"),
        (held.conversations, apart.conversations, "conversations"),
        (held.tasks, apart.tasks, "documents of tasks"),
    ):
        if len(was) > len(is_):
            warn(
                f"{len(was) - len(is_)} of {len(was)} held-out {what} stand in the training data and are left out "
                f"(onOverlap: Drop); {pairs.name} has them"
            )
    dropped = len(held.documents) - len(apart.documents) + len(held.conversations) - len(apart.conversations)
    dropped += len(held.tasks) - len(apart.tasks)
    if discounted := overlaps.discounted:
        say(
            f"{discounted} held-out texts share boilerplate with the training data and no more: passages that stand in "
            f"{COMMON_DOCUMENTS} of its documents or more do not count against them; {pairs.name} has them"
        )
    # A file that is read in two ways is named once for what both leave unused, or out.
    blank_lines = dict.fromkeys(blank_rows.line(name, count) for (_, name), count in blank.items() if count)
    for line in dict.fromkeys(line for (_, name), fields in unused.items() for line in _unused(name, fields)):
        say(line)
    block_rows = {place: [len(part) for part in parts] for place, parts in keys.items()}
    with marked:
        left_out = {name: marked.left_out(stage, block_rows) for name, stage in found.stages.items()}
    return Scanned(
        keys={place: np.concatenate([np.zeros(0, np.uint64), *parts]) for place, parts in keys.items()},
        forms=forms,
        prompted=frozenset(prompted),
        characters=characters,
        held=apart,
        dropped=dropped,
        discounted=overlaps.discounted,
        passages=passages.result(),
        recall_overlap=overlaps.recall_overlap,
        left_out=left_out,
        blank=tuple(blank_lines),
        tools=tools,
    )


def _found_again(
    files: list[tuple[Objective, InputFile]], workers: int, say: Say, scan: Scan, texts: int
) -> Iterator[tuple[str, Findings]]:
    say(f"looking again for {texts} held-out texts, without the passages that many training documents have")
    progress = RowProgress("looked through", say)
    for (_, name), findings in parallel.tagged(scan.marked, _jobs(files, {}), workers=workers):
        progress.add(findings.rows)
        yield name, findings


def _unused(name: str, fields: Counter[str]) -> Iterator[str]:
    for field, count in fields.most_common(_MOST_UNUSED):
        yield f"{name}: the field {field!r} of {count:,} rows is not used"
    if (more := len(fields) - _MOST_UNUSED) > 0:
        yield f"{name}: nor are {more} other fields"


def _place(objective: Objective, file: InputFile) -> tuple[Objective, FileKey]:
    return objective, file.key


def _jobs(
    files: list[tuple[Objective, InputFile]], deduplicated: Mapping[tuple[Objective, FileKey], Deduplicate]
) -> Iterator[tuple[tuple[tuple[Objective, FileKey], str], tuple[Objective, Block, Deduplicate]]]:
    """Yields for each block of each file where it belongs, and what is scanned."""
    for objective, file in files:
        for block in file.blocks():
            place = _place(objective, file)
            yield (place, file.name), (objective, block, deduplicated.get(place, "None"))
