"""The pass over all training data before any of it is tokenised: every row is checked, what is held out is looked for,
and every document gets the key by which it is divided and counted later.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from slipway_trainer.data import contamination, parallel
from slipway_trainer.data.contamination import Overlaps
from slipway_trainer.data.held_out import HeldOut
from slipway_trainer.data.inputs import InputFile, Inputs, StageInputs
from slipway_trainer.data.rows import Block
from slipway_trainer.data.scan import Objective
from slipway_trainer.prepare.row_progress import RowProgress
from slipway_trainer.step.progress import Say


@dataclass(frozen=True)
class Scanned:
    """What is known of the training data."""

    keys: dict[tuple[Objective, Path], np.ndarray]
    """uint64 [rows] by kind of row and file: equal for equal documents."""
    characters: int
    recall_overlap: int
    """Prompts that test recall, and whose answers the training data holds."""

    def keys_of(self, stage: StageInputs) -> np.ndarray:
        """Returns the keys of all that a stage learns from, in the order in which it is read."""
        files = [file for source in stage.train for file in source.files]
        return np.concatenate([self.keys[stage.objective, file.source.path] for file in files])


def scan(found: Inputs, held: HeldOut, workers: int, say: Say) -> Scanned:
    """Raises BadData for the first bad row, and Overlap when held-out data stands in the training data."""
    files = found.training_files()
    say(f"checking {len(files)} file(s), {sum(file.size for _, file in files) / 1e6:.1f} MB")
    overlaps, characters = Overlaps(held), 0
    keys: dict[tuple[Objective, Path], list[np.ndarray]] = {_place(*one): [] for one in files}
    progress = RowProgress("checked", say)
    for (place, name), findings in parallel.tagged(contamination.scan_for(held), _jobs(files), workers=workers):
        progress.add(findings.rows)
        keys[place].append(findings.keys)
        characters += findings.characters
        overlaps.add(name, findings.matches, findings.wordings)
    overlaps.refuse()
    return Scanned(
        keys={place: np.concatenate([np.zeros(0, np.uint64), *parts]) for place, parts in keys.items()},
        characters=characters,
        recall_overlap=overlaps.recall_overlap,
    )


def _place(objective: Objective, file: InputFile) -> tuple[Objective, Path]:
    return objective, file.source.path


def _jobs(
    files: list[tuple[Objective, InputFile]],
) -> Iterator[tuple[tuple[tuple[Objective, Path], str], tuple[Objective, Block]]]:
    """Yields for each block of each file where it belongs, and what is scanned."""
    for objective, file in files:
        for block in file.blocks():
            yield (_place(objective, file), file.name), (objective, block)
