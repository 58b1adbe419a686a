"""What a held-out row says of itself beside its text: the slice that it belongs to, and the rows that are like it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from slipway_core.resources.evaluation import SCOPE_PATTERN
from slipway_trainer.data.bad_row import BadRow, shown, string

FIELDS = ("slice", "cluster")
LONGEST_CLUSTER = 256


@dataclass(frozen=True)
class Labels:
    slice: str | None = None
    cluster: str | None = None
    """Rows of one cluster count as one where it is told how sure a figure is; None where a row is one of its own."""

    def to_document(self) -> dict[str, str]:
        """Returns those that there are."""
        return {name: value for name in FIELDS if (value := getattr(self, name)) is not None}


NONE = Labels()


def read(row: Mapping[str, Any]) -> Labels:
    """Raises BadRow for a slice or a cluster that is none."""
    part: Any = row.get("slice")
    cluster: Any = row.get("cluster")
    if part is None and cluster is None:
        return NONE
    if part is not None and not (isinstance(part, str) and re.match(SCOPE_PATTERN, part)):
        raise BadRow(
            f"slice is {shown(part)}; the name of a slice is at most 63 letters, digits, dots, dashes and underscores. "
            "Name it so, or set it to null"
        )
    if isinstance(cluster, int) and not isinstance(cluster, bool):
        return Labels(part, str(cluster))
    if cluster is not None and not 0 < len(string(cluster, "cluster")) <= LONGEST_CLUSTER:
        raise BadRow(
            f"cluster is {shown(cluster)}; it is a text of 1 to {LONGEST_CLUSTER} characters, or a whole number"
        )
    return Labels(part, cluster)  # pyright: ignore[reportArgumentType]
