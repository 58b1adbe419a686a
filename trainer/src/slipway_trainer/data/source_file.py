"""A file of a source of the plan, as it can be read on this machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Streamed:
    """A file that is brought here each time that it is read, and does not stay."""

    size: int
    """Bytes."""
    sha256: str
    here: Callable[[], AbstractContextManager[Path]]
    """Has it on the disk; raises a FetchError, also where it is not what it was."""


@dataclass(frozen=True)
class SourceFile:
    path: Path
    """Where it lies; of one that is streamed only a name for it."""
    name: str
    """As a user knows it, for errors and reports."""
    rows: tuple[int, int] | None = None
    """Which of its rows are wanted, as `Reading` has them; None for all."""
    origin: tuple[tuple[str, str], ...] = ()
    """What a report says of where it is from, beside the URI: the commit of a dataset of the hub, its split."""
    streamed: Streamed | None = None

    @contextmanager
    def here(self) -> Iterator[Path]:
        """Has the file on this machine. Raises a FetchError."""
        if self.streamed is None:
            yield self.path
            return
        with self.streamed.here() as path:
            yield path
