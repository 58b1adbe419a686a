"""duplicates.jsonl: every row that a stage does not learn since another one says the same, with that one."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from slipway_host.files import sync
from slipway_trainer.prepare.marked_rows import LeftOut

SHOWN = 5


class DuplicatesFile:
    """Appears under its name when `finish` returns, where there is something in it.

    Args:
        place: of the file; what is there is replaced.
        attempt: of prepare.
    """

    def __init__(self, place: Path, attempt: int) -> None:
        self._place = place
        self._temporary = place.with_name(f".{place.name}.tmp-{attempt}")
        self._file: IO[str] | None = None

    def of_stage(self, stage: str, left_out: LeftOut | None) -> DuplicatesOfStage:
        return DuplicatesOfStage(self, stage, left_out)

    def write(self, row: dict[str, Any]) -> None:
        if self._file is None:
            self._file = self._temporary.open("w", encoding="utf-8")
        self._file.write(json.dumps(row, ensure_ascii=False) + "\n")

    def finish(self) -> None:
        if self._file is None:
            return
        self._file.close()
        sync(self._temporary)
        os.replace(self._temporary, self._place)
        sync(self._place.parent)


@dataclass
class DuplicatesOfStage:
    """What a stage leaves out, told in the order of its data."""

    file: DuplicatesFile
    stage: str
    left_out: LeftOut | None
    _examples: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    _pairs: Iterator[dict[str, Any]] = field(init=False)

    def __post_init__(self) -> None:
        self._pairs = self.left_out.pairs() if self.left_out is not None else iter(())

    def add(self, texts: Iterable[str]) -> None:
        """Takes how the next rows begin that are left out."""
        for text in texts:
            row = {"stage": self.stage, **next(self._pairs), "text": text}
            self.file.write(row)
            if len(self._examples) < SHOWN:
                self._examples.append(row)

    @property
    def report(self) -> dict[str, Any]:
        """What the report says; nothing of a stage that learns all rows."""
        if self.left_out is None:
            return {}
        found = self.left_out.found
        return {
            "deduplicated": found.exact + found.near,
            "deduplicated_near": found.near,
            "deduplicated_examples": self._examples,
        }
