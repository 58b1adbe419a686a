"""Rows whose text says nothing: left out, and said."""

from __future__ import annotations


def line(name: str, count: int, *, of: str = "") -> str:
    """Returns the sentence for a file.

    Args:
        of: of how many rows, where not all were looked at.
    """
    return f"{name}: rows whose text is empty, or white space alone, are left out: {count:,}{of}"
