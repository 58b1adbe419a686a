"""The look at all files before anything is tokenised. What is wrong is collected; a run ends at the first fault."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from slipway_core.protocol.preview import FileView, Split
from slipway_core.resources.data import Deduplicate
from slipway_trainer.data import contamination, rows
from slipway_trainer.data.contamination import Overlaps
from slipway_trainer.data.held_out import HeldOut
from slipway_trainer.data.inputs import FileKey, Input, Inputs, StageInputs
from slipway_trainer.data.row_marks import Marks
from slipway_trainer.data.scan import Findings, Objective, Scan
from slipway_trainer.prepare.marked_rows import LeftOut, MarkedRows
from slipway_trainer.preview.sampled_file import SampledFile, sampled
from slipway_trainer.step.errors import Overlap, StepFailure

MOST_PROBLEMS = 3
"""Of a file that are named."""


@dataclass
class Looked:
    """What was found in one file, read for one objective."""

    file: SampledFile
    form: str | None = None
    keys: list[np.ndarray] = field(default_factory=list[np.ndarray])
    unused: Counter[str] = field(default_factory=Counter[str])
    blank: int = 0
    prompted: bool = False
    characters: int = 0
    tools: bool = False
    problems: list[str] = field(default_factory=list[str])
    marks: list[Marks] = field(default_factory=list[Marks])
    """By which rows are told that say the same, where the stage leaves them out."""

    def add(self, findings: Findings) -> None:
        self.keys.append(findings.keys)
        self.unused.update(findings.unused)
        self.blank += findings.blank
        self.prompted |= findings.prompted
        self.characters += findings.characters
        self.tools |= findings.tools
        self.marks += [findings.marks] if findings.marks is not None else []


@dataclass(frozen=True)
class Look:
    """What was found in all of them."""

    found: Inputs
    """The data with the files that nothing is wrong with, as they are looked at."""
    files: dict[tuple[Objective, FileKey], Looked]
    overlaps: Overlaps
    held: HeldOut
    """What is judged by: without what stands in the rows that were looked at, where the run leaves such out."""
    problems: list[str]
    left_out: dict[str, LeftOut | None]
    """By stage, the rows that it leaves out since others say the same; None where it learns all."""

    def keys_of(self, stage: StageInputs) -> np.ndarray:
        """Returns uint64 [rows looked at] of the stage's training data: equal for equal documents."""
        return self._keys(stage.train_places)

    def validation_keys_of(self, stage: StageInputs) -> np.ndarray:
        """Returns the same of its validation data of its own."""
        return self._keys(stage.validation_places)

    def masks(self, stage: StageInputs) -> bool:
        """Whether some tokens of a stage's data are not learned."""
        return stage.objective != "CausalLM" or any(self._of(stage, file.key).prompted for file in stage.files)

    def faultless(self, stage: StageInputs) -> bool:
        """Whether nothing is wrong with any file of a stage as the plan has it."""
        return not any(self._of(stage, file.key).problems for file in stage.files)

    @property
    def characters(self) -> int:
        return sum(looked.characters for looked in self.files.values())

    @property
    def tools(self) -> bool:
        """Whether some conversations have tools, or call some."""
        return any(looked.tools for looked in self.files.values())

    @property
    def share(self) -> float:
        """Of all training rows, those that were looked at; all of them where there are none."""
        files = [looked.file for looked in self.files.values()]
        rows = sum(file.rows for file in files)
        return sum(file.looked_at for file in files) / rows if rows else 1.0

    def views(self, stage: StageInputs) -> list[FileView]:
        """Returns what is shown of each file of a stage, faulty ones too."""
        return [
            _view(self._of(stage, file.key), source, split)
            for split, sources in _splits(stage)
            for source in sources
            for file in source.files
        ]

    def _keys(self, places: Sequence[tuple[Objective, FileKey]]) -> np.ndarray:
        return np.concatenate([np.zeros(0, np.uint64), *(part for place in places for part in self.files[place].keys)])

    def _of(self, stage: StageInputs, key: FileKey) -> Looked:
        return self.files[stage.objective, key]


def look(found: Inputs, held: HeldOut, folder: Path, *, drop: bool) -> Look:
    """Returns what is in the training data, of each file a part that is small.

    Args:
        folder: for what is kept meanwhile.
        drop: whether held-out documents that stand in it are left out.
    """
    wanted = found.training_files()
    files = sampled([file for _, file in wanted])
    scan = contamination.scan_for(held)
    overlaps = Overlaps(held, scan.held)
    deduplicated, marked = found.deduplicated(), MarkedRows(folder)
    looked: dict[tuple[Objective, FileKey], Looked] = {}
    for objective, file in wanted:
        place = objective, file.key
        looked[place] = one = _look(scan, overlaps, objective, files[file.key], deduplicated.get(place, "None"))
        for marks in one.marks:
            marked.add(place, marks)
    problems = [problem for one in looked.values() for problem in one.problems]
    contamination.look_again(overlaps, lambda scan, _: _found_again(looked, scan))
    try:
        overlaps.refuse(documents_too=not drop)
    except Overlap as error:
        problems.append(str(error))
    stages = {
        name: replace(stage, train=_good(stage.train, stage, looked), validation=_good(stage.validation, stage, looked))
        for name, stage in found.stages.items()
    }
    block_rows = {place: [len(part) for part in one.keys] for place, one in looked.items()}
    with marked:
        left_out = {
            name: marked.left_out(stage, block_rows) if stage.train_places else None for name, stage in stages.items()
        }
    apart = overlaps.apart(drop=drop)
    return Look(replace(found, stages=stages), looked, overlaps, apart, problems, left_out)


def _found_again(looked: dict[tuple[Objective, FileKey], Looked], scan: Scan) -> Iterator[tuple[str, Findings]]:
    for (objective, _), one in looked.items():
        for block in one.file.blocks() if not one.problems else ():
            yield one.file.name, scan((objective, block))


def _look(scan: Scan, overlaps: Overlaps, objective: Objective, file: SampledFile, deduplicate: Deduplicate) -> Looked:
    looked = Looked(file)
    for problem in _fill(looked, scan, overlaps, objective, deduplicate):
        if len(looked.problems) == MOST_PROBLEMS:
            looked.problems.append(f"{file.name}: and more")
            break
        looked.problems.append(problem)
    return looked


def _fill(
    looked: Looked, scan: Scan, overlaps: Overlaps, objective: Objective, deduplicate: Deduplicate
) -> Iterator[str]:
    """Looks at a file block by block. Yields what is wrong: the first fault of each block."""
    try:
        for block in looked.file.blocks():
            try:
                looked.form = looked.form or rows.form_of(block, objective)
                findings = scan.marked((objective, block, deduplicate))
            except StepFailure as error:
                yield str(error)
                if looked.form is None:
                    return  # It holds for every row.
                continue
            looked.add(findings)
            overlaps.add(looked.file.name, findings.held, findings.wordings)
    except StepFailure as error:
        yield str(error)


def _good(
    sources: Sequence[Input], stage: StageInputs, looked: dict[tuple[Objective, FileKey], Looked]
) -> tuple[Input, ...]:
    return tuple(
        replace(
            source,
            files=tuple(
                looked[stage.objective, file.key].file
                for file in source.files
                if not looked[stage.objective, file.key].problems
            ),
        )
        for source in sources
    )


def _splits(stage: StageInputs) -> tuple[tuple[Split, tuple[Input, ...]], ...]:
    return ("train", stage.train), ("validation", stage.validation)


def _view(looked: Looked, source: Input, split: Split) -> FileView:
    file = looked.file
    return FileView(
        field=source.field,
        name=file.name,
        split=split,
        form=looked.form,
        rows=file.rows,
        looked_at=file.looked_at,
        bytes=file.size,
        weight=source.weight,
        unused=dict(looked.unused.most_common()),
        blank=looked.blank,
    )
