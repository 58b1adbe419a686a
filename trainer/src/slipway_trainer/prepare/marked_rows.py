"""The marks of all rows of which some are to be left out, and what a stage leaves out by them.

For each row 12 bytes are held in memory and, where near rows are asked for, 256 in a file that nobody else sees and
that is gone with this process.
"""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np

from slipway_trainer.data import duplicate_rows
from slipway_trainer.data.duplicate_rows import Duplicates
from slipway_trainer.data.inputs import FileKey, StageInputs
from slipway_trainer.data.row_marks import PERMUTATIONS, SKETCHES, Marks
from slipway_trainer.data.scan import Objective

Place = tuple[Objective, FileKey]


@dataclass(frozen=True)
class LeftOut:
    """The rows of a stage's training data that are left out, in the order in which the data is read."""

    found: Duplicates
    lines: np.ndarray
    """uint32 [rows]."""
    files: Sequence[tuple[str, int]]
    """Name and rows of each file."""
    block_rows: Sequence[int]
    """Rows of each block."""

    @property
    def stays(self) -> np.ndarray:
        """bool [rows]."""
        return ~self.found.left_out

    def blocks(self) -> Iterator[np.ndarray]:
        """Yields for each block of the data which of its rows are left out."""
        start = 0
        for rows in self.block_rows:
            yield self.found.left_out[start : start + rows]
            start += rows

    def pairs(self) -> Iterator[dict[str, Any]]:
        """Yields of each row that is left out where it stands, and for which it goes."""
        ends = np.cumsum([rows for _, rows in self.files])
        rows = np.flatnonzero(self.found.left_out)
        for row, other in zip(rows.tolist(), self.found.of[rows].tolist(), strict=True):
            share = float(self.found.share[row])
            yield {
                "row": self._place(row, ends),
                "of": self._place(other, ends),
                "rule": "exact" if share == 1 else "near",
                "share": round(share, 3),
            }

    def _place(self, row: int, ends: np.ndarray) -> str:
        return f"{self.files[int(np.searchsorted(ends, row, side='right'))][0]}:{self.lines[row]}"


@dataclass
class MarkedRows:
    """Gathers marks, file by file, each file in its own order.

    Args:
        folder: on whose disk the sketches lie meanwhile.
    """

    folder: Path
    _lines: dict[Place, list[np.ndarray]] = field(default_factory=lambda: defaultdict(list))
    _keys: dict[Place, list[np.ndarray]] = field(default_factory=lambda: defaultdict(list))
    _first: dict[Place, int] = field(default_factory=dict[Place, int])
    """Where the sketches of a file begin."""
    _sketched: int = 0
    _file: IO[bytes] | None = None

    def __enter__(self) -> MarkedRows:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def add(self, place: Place, marks: Marks) -> None:
        """Adds the marks of the next block of a file."""
        self._lines[place].append(marks.lines)
        self._keys[place].append(marks.keys)
        if marks.sketches is None:
            return
        if self._file is None:
            self._file = tempfile.TemporaryFile(dir=self.folder)  # noqa: SIM115
        self._first.setdefault(place, self._sketched)
        self._file.write(np.ascontiguousarray(marks.sketches).tobytes())
        self._sketched += len(marks.sketches)

    def left_out(self, stage: StageInputs, block_rows: Mapping[Place, Sequence[int]]) -> LeftOut | None:
        """Returns what a stage leaves out; None where it is to learn every row.

        Args:
            stage: whose files have all been added.
            block_rows: of each file the rows of its blocks.
        """
        if stage.deduplicate == "None":
            return None
        places = stage.train_places
        keys = np.concatenate([part for place in places for part in self._keys[place]])
        near = stage.deduplicate == "Near"
        return LeftOut(
            found=duplicate_rows.find(keys, *((self._sketches(), self._where(places)) if near else ())),
            lines=np.concatenate([part for place in places for part in self._lines[place]]),
            files=[
                (file.name, sum(block_rows[stage.objective, file.key]))
                for source in stage.train
                for file in source.files
            ],
            block_rows=[rows for place in places for rows in block_rows[place]],
        )

    def _where(self, places: Sequence[Place]) -> np.ndarray:
        sizes = [sum(map(len, self._keys[place])) for place in places]
        spans = zip(places, sizes, strict=True)
        return np.concatenate([np.arange(self._first[place], self._first[place] + size) for place, size in spans])

    def _sketches(self) -> np.ndarray:
        assert self._file is not None
        self._file.flush()
        return np.memmap(self._file, np.uint8, "r", shape=(self._sketched, SKETCHES, PERMUTATIONS))
