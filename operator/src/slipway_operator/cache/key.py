"""The name of what a pass looks at: a run, an endpoint, or what deleted runs left in a namespace."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, order=True)
class Key:
    kind: Literal["TrainingRun", "ModelEndpoint", "Namespace"]
    namespace: str
    name: str
    """Of kind Namespace: the uid of a deleted run, or the namespace itself for all that they left."""
