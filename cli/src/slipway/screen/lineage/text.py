"""A lineage as an indented list."""

from __future__ import annotations

from collections.abc import Iterator

from slipway.records.lineage_graph import Lineage, Node
from slipway.screen.visible import visible


def lines(lineage: Lineage) -> Iterator[str]:
    """Yields a line for each model, plan and file, with its digest, and one for what cannot be read of it."""
    seen: set[str] = set()
    for root in lineage.roots:
        yield from _below(lineage, root, "", 0, seen)


def _below(lineage: Lineage, node: Node, label: str, depth: int, seen: set[str]) -> Iterator[str]:
    indent = "  " * depth
    digest = f"  {node.digest}" if node.digest else ""
    before = f"{label}: " if label else ""
    again = node.id in seen
    yield visible(f"{indent}{before}{node.title}{digest}{'  (see above)' if again else ''}")
    if again:
        return
    seen.add(node.id)
    if node.facts:
        told = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in node.facts.items())
        yield visible(f"{indent}  {told}")
    if node.missing:
        yield visible(f"{indent}  ! {node.missing}")
    for edge in lineage.after(node.id):
        yield from _below(lineage, lineage.node(edge.target), edge.label, depth + 1, seen)
