"""What each tracker has of a stage, in a file of its folder: a later attempt goes on there."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from slipway_host.files import write_atomically


@dataclass(frozen=True)
class Told:
    """What one tracker has."""

    target: str = ""
    """Where that is: a project, an experiment."""
    attempt: int = 0
    step: int = 0
    """The newest row: of this attempt, this step."""
    furthest: int = 0
    """The largest step of any attempt."""
    concluded: str = ""
    """Of publish: which conclusion it was told."""
    link: str = ""
    warning: str = ""
    """What is wrong with it now; empty while it takes what it is told."""

    @classmethod
    def of(cls, document: Any) -> Told:
        known: dict[str, Any] = document if isinstance(document, dict) else {}
        found: dict[str, Any] = {
            one.name: known[one.name] for one in fields(cls) if type(known.get(one.name)) is type(one.default)
        }
        return cls(**found)

    def has(self, attempt: int, step: int) -> bool:
        return (attempt, step) <= (self.attempt, self.step)


@dataclass
class Record:
    """The file, by tracker. Several threads of one process write it, and one process at a time."""

    path: Path
    _told: dict[str, Told] = field(default_factory=dict[str, Told])
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def open(cls, path: Path) -> Record:
        return cls(path, dict(read(path)))

    def of(self, tracker: str) -> Told:
        return self._told.get(tracker, Told())

    def aim(self, tracker: str, target: str) -> None:
        """Forgets what a tracker has where it is told elsewhere now. Raises OSError as `update` does."""
        if self.of(tracker).target != target:
            empty = {one.name: one.default for one in fields(Told)}
            self.update(tracker, **{**empty, "target": target})

    def update(self, tracker: str, **changes: Any) -> None:
        """Raises OSError while the disk does not take it."""
        with self._lock:
            before = self.of(tracker)
            after = replace(before, **changes)
            if after == before:
                return
            self._told[tracker] = after
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(self.path, json.dumps({name: asdict(told) for name, told in self._told.items()}) + "\n")


def read(path: Path) -> Mapping[str, Told]:
    """Returns what a file says; nothing of one that is not there or is damaged: then all of it is told again."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {name: Told.of(told) for name, told in document.items()} if isinstance(document, dict) else {}


def links(told: Mapping[str, Told]) -> dict[str, str]:
    """Returns where people see the run, by tracker."""
    return {name: one.link for name, one in told.items() if one.link}


def warnings(told: Mapping[str, Told]) -> list[str]:
    return [one.warning for one in told.values() if one.warning]
