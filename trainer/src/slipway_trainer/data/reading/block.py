"""What one process hands to another of a data file: some whole rows, not read yet, and what all of its rows are."""

from __future__ import annotations

from dataclasses import dataclass

from slipway_core.resources.data import TextForm
from slipway_trainer.data.formats.row_format import Format
from slipway_trainer.step.errors import BadData

BLOCK_BYTES = 1 << 20
BLOCK_ROWS = 2048


@dataclass(frozen=True)
class Reading:
    """How a source of the plan asks for its files to be read."""

    format: Format | None = None
    """None finds it out from the rows."""
    documents: str = "File"
    """What a document of a .txt file is: File or Paragraph."""
    columns: tuple[tuple[str, str], ...] = ()
    """Pairs of a field of ours and the column of the file that stands for it."""
    normalization: tuple[TextForm, ...] = ()
    """What is done to its texts, in this order; to what is held out, nothing."""
    rows: tuple[int, int] | None = None
    """The first row that is read, counted from 0, and the first that is not any more; None reads all."""


AS_IT_IS = Reading()


@dataclass(frozen=True)
class Head:
    """The first row of a file, by which its other rows are read."""

    line: int
    formats: tuple[Format, ...]
    """What it may be; the objective decides between them."""


@dataclass(frozen=True)
class Block:
    """Some whole rows of a file."""

    name: str
    """The file, as errors name it."""
    first: int
    """Line of the first row, from 1; the number of the row in a file that is not read by lines."""
    payload: bytes
    """Lines of JSON, or an Arrow IPC stream."""
    arrow: bool = False
    lines: tuple[int, ...] = ()
    """Line of each row, where rows of a file take several lines each; otherwise each row takes one."""
    unread: tuple[str, ...] = ()
    """Columns of the file that nothing asks for, which the payload leaves out."""
    reading: Reading = AS_IT_IS
    head: Head | None = None
    """None until the file's first row was looked at."""


def bad(name: str, line: int, problem: object) -> BadData:
    """Returns the error of a row of a file. The problem ends without a full stop."""
    return BadData(f"{name}:{line}: {problem}.")
