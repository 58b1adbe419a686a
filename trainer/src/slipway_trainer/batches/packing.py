"""Packing: documents into rows of one length, with as little padding as best fit decreasing leaves."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Bins:
    """Which documents stand in which row, in CSR form: row i holds `documents[offsets[i]:offsets[i + 1]]`."""

    offsets: np.ndarray
    """int64 [rows + 1]."""
    documents: np.ndarray
    """int64 [documents]: indices into what was packed."""

    @classmethod
    def empty(cls) -> Bins:
        """Returns no rows."""
        return cls(np.zeros(1, np.int64), np.zeros(0, np.int64))

    @classmethod
    def joined(cls, parts: Sequence[Bins]) -> Bins:
        """Returns all rows, one part after the other."""
        if not parts:
            return cls.empty()
        sizes = np.concatenate([np.diff(part.offsets) for part in parts])
        return cls(np.concatenate(([0], np.cumsum(sizes))), np.concatenate([part.documents for part in parts]))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def row(self, index: int) -> np.ndarray:
        return self.documents[self.offsets[index] : self.offsets[index + 1]]

    def take(self, rows: np.ndarray) -> Bins:
        """Returns these rows in this order."""
        sizes = np.diff(self.offsets)[rows]
        offsets = np.concatenate(([0], np.cumsum(sizes)))
        starts = np.repeat(self.offsets[rows] - offsets[:-1], sizes)
        return Bins(offsets, self.documents[starts + np.arange(offsets[-1])])


def pack(lengths: np.ndarray, capacity: int) -> Bins:
    """Packs documents into rows of `capacity` tokens by best fit decreasing.

    Every document goes, longest first and equals in their order, into the fullest row that still has room for it
    (D. S. Johnson, 1973: at most 11/9 of the least possible number of rows, and a constant). Equal lengths are
    placed together, so the cost is that of the distinct pairs of length and room, not of documents times rows.

    Args:
        lengths: tokens of each document, 1 to `capacity`.
        capacity: tokens of a row.

    Raises ValueError for a length outside of that.
    """
    lengths = np.asarray(lengths, dtype=np.int64)
    if len(lengths) == 0:
        return Bins.empty()
    if lengths.min() < 1 or lengths.max() > capacity:
        raise ValueError(f"lengths {lengths.min()} to {lengths.max()} do not fit into rows of 1 to {capacity}")
    order = np.argsort(-lengths, kind="stable")
    ordered = lengths[order]
    starts = np.flatnonzero(np.diff(ordered, prepend=-1))
    rows = _Rows(capacity, len(lengths))
    for start, stop in zip(starts.tolist(), [*starts[1:].tolist(), len(lengths)], strict=True):
        rows.place(int(ordered[start]), start, stop)
    row_of = np.array(rows.row_of, dtype=np.int64)
    by_row = np.argsort(row_of, kind="stable")
    offsets = np.zeros(rows.count + 1, np.int64)
    np.cumsum(np.bincount(row_of, minlength=rows.count), out=offsets[1:])
    return Bins(offsets, order[by_row])


class _Rows:
    """Open rows by the room that is left in them."""

    def __init__(self, capacity: int, documents: int) -> None:
        self.capacity = capacity
        self.count = 0
        self.row_of = [0] * documents
        self.by_room: dict[int, list[int]] = {}
        self.rooms: list[int] = []
        """The keys of by_room, ascending."""

    def place(self, length: int, start: int, stop: int) -> None:
        """Places the documents start to stop, all of this length."""
        index = bisect_left(self.rooms, length)
        while start < stop and index < len(self.rooms):
            room = self.rooms[index]
            open_rows = self.by_room[room]
            each = room // length
            before = len(self.rooms)
            start = self._fill(open_rows, room, length, each, start, stop)
            # What was filled has less room than `length` now, or no document is left: its place is before this one.
            index += len(self.rooms) - before
            if open_rows:
                break
            del self.by_room[room], self.rooms[index]
        if start < stop:
            each = self.capacity // length
            new = -(-(stop - start) // each)
            open_rows = list(range(self.count + new - 1, self.count - 1, -1))
            self.count += new
            self._fill(open_rows, self.capacity, length, each, start, stop)

    def _fill(self, open_rows: list[int], room: int, length: int, each: int, start: int, stop: int) -> int:
        """Puts `each` documents into each row, from the end of the list; returns the first document left over."""
        whole = min(len(open_rows), (stop - start) // each)
        if whole:
            filled = open_rows[: -whole - 1 : -1]
            del open_rows[-whole:]
            end = start + whole * each
            self.row_of[start:end] = filled if each == 1 else [row for row in filled for _ in range(each)]
            self._open(room - each * length, filled)
            start = end
        if start < stop and open_rows:
            row = open_rows.pop()
            self.row_of[start:stop] = [row] * (stop - start)
            self._open(room - (stop - start) * length, [row])
            start = stop
        return start

    def _open(self, room: int, rows: list[int]) -> None:
        if room == 0:
            return
        if room not in self.by_room:
            self.by_room[room] = []
            self.rooms.insert(bisect_left(self.rooms, room), room)
        self.by_room[room].extend(rows)
