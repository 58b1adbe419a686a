"""A lineage: what was made, and of what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Kind = Literal["endpoint", "version", "artifact", "judgement", "statement", "plan", "base", "data", "file"]


@dataclass(frozen=True)
class Node:
    id: str
    kind: Kind
    title: str
    digest: str | None = None
    facts: Mapping[str, str] = field(default_factory=dict[str, str])
    missing: str | None = None
    """What of it cannot be read, or is not as it was recorded, and why."""


@dataclass(frozen=True)
class Edge:
    """`source` was made of, or is, `target`."""

    source: str
    target: str
    label: str


@dataclass(frozen=True)
class Lineage:
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]

    def node(self, id_: str) -> Node:
        return next(node for node in self.nodes if node.id == id_)

    def after(self, id_: str) -> list[Edge]:
        return [edge for edge in self.edges if edge.source == id_]

    @property
    def roots(self) -> list[Node]:
        ends = {edge.target for edge in self.edges}
        return [node for node in self.nodes if node.id not in ends] or list(self.nodes[:1])

    def to_document(self) -> dict[str, Any]:
        nodes = [{key: value for key, value in asdict(node).items() if value} for node in self.nodes]
        return {"nodes": nodes, "edges": [asdict(edge) for edge in self.edges]}
