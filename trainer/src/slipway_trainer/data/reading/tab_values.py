"""What a quote is in a .tsv file: a mark around a value, as in a .csv, or a character like any other.

Programs write both, and no file says which it is. Read wrongly, rows run into each other: a value that begins with a
quote takes in all tabs and line ends up to the next one. So the whole file decides, before its first row is read.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator

from slipway_trainer.data.reading.block import bad
from slipway_trainer.data.reading.block_rows import LONGEST_ROW

TAB = "\t"
RETURNS_ALONE = "new-line character"
"""In the error of Python's csv about a file whose lines end with carriage returns alone."""


def quotes_nothing(name: str, lines: Callable[[], Iterator[str]]) -> bool:
    """Whether quotes are of the text: tabs alone give each line the columns of the first one, and quotes do not.

    Where both do, quotes are marks, as for other readers of tables.

    Args:
        lines: gives the lines of the file anew each time.

    Raises BadData where both do and rows would be others.
    """
    if not any(line.startswith('"') or '\t"' in line for line in lines()):
        return False
    if len({len(found) for line in lines() if (found := values(line))}) > 1:
        return False
    limit = csv.field_size_limit(LONGEST_ROW)  # A quote that nothing ends would take in the rest of the file.
    try:
        return not _quotes_fit(name, lines())
    except csv.Error as error:
        return RETURNS_ALONE not in str(error)
    finally:
        csv.field_size_limit(limit)


def values(line: str) -> list[str]:
    """Returns the values of a line whose quotes are of the text; none of an empty one."""
    text = line.removesuffix("\n").removesuffix("\r")
    return text.split(TAB) if text else []


def _quotes_fit(name: str, lines: Iterator[str]) -> bool:
    """Whether all rows have as many values as the first one. Of a single column a value may have any lines: nothing
    but its quotes tells where it ends. Raises csv.Error."""
    rows = csv.reader(lines, delimiter=TAB, strict=True)
    columns, begun = 0, 1
    several: tuple[int, int] | None = None
    for row in rows:
        line, begun = begun, rows.line_num + 1
        if row and len(row) != (columns := columns or len(row)):
            return False
        if several is None and columns > 1 and rows.line_num > line:
            several = line, rows.line_num
    if several is not None:
        raise bad(
            name,
            several[0],
            f"lines {several[0]} to {several[1]} are one row if their quotes are marks around a value, and a row each "
            "if they are of the text, and nothing tells. Save it as .jsonl, or as .csv with the quotes as marks",
        )
    return True
