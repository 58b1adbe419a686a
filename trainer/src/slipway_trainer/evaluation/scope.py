"""Which rows a figure is of: those of a source, of a slice, of both, or all; and which of them belong together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

import numpy as np


class Scope(NamedTuple):
    """The source and the slice whose rows alone count; None for all."""

    source: str | None = None
    slice: str | None = None


ALL = Scope()


class RowOf(NamedTuple):
    """Where a held-out row belongs."""

    source: str | None = None
    slice: str | None = None
    cluster: str | None = None


NOWHERE = RowOf()


@dataclass(frozen=True)
class RowsOf:
    """Where each of some rows belongs."""

    rows: Sequence[RowOf]

    def within(self, scope: Scope) -> np.ndarray:
        """Returns bool [rows], whether each is in a scope."""
        return np.array(
            [scope.source in (None, row.source) and scope.slice in (None, row.slice) for row in self.rows], bool
        )

    @property
    def clusters(self) -> np.ndarray:
        """Returns int64 [rows], a number for each: the same for rows of one cluster."""
        numbers: dict[object, int] = {}
        keys = [place if row.cluster is None else row.cluster for place, row in enumerate(self.rows)]
        return np.array([numbers.setdefault(key, len(numbers)) for key in keys], np.int64)


def scopes(*kinds: RowsOf) -> list[Scope]:
    """Returns each source, each slice, and each slice of a source, that some row is of."""
    rows = [row for kind in kinds for row in kind.rows]
    sources = dict.fromkeys(row.source for row in rows if row.source is not None)
    slices = dict.fromkeys(row.slice for row in rows if row.slice is not None)
    both = {(row.source, row.slice) for row in rows}
    return [
        *(Scope(source) for source in sources),
        *(Scope(None, part) for part in slices),
        *(Scope(source, part) for source, part in product(sources, slices) if (source, part) in both),
    ]
