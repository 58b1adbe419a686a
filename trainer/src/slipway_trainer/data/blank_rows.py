"""Rows whose text says nothing: left out, and said."""

from __future__ import annotations


def line(name: str, count: int, *, of: str = "") -> str:
    """Returns the sentence for a file.

    Args:
        of: of how many rows, where not all were looked at.
    """
    return f"{name}: the text of {count:,}{of} rows is empty, or white space alone: they are left out"
