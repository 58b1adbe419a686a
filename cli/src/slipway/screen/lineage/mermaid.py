"""A lineage as a Mermaid flowchart, which GitHub, GitLab and many wikis draw."""

from __future__ import annotations

from collections.abc import Iterator

from slipway.records.lineage_graph import Lineage, Node
from slipway.screen.visible import visible

_SHAPES = {"endpoint": ("([", "])"), "data": ("[(", ")]"), "file": ("[/", "/]"), "judgement": ("{{", "}}")}


def chart(lineage: Lineage) -> str:
    """Returns the text of the chart."""
    names = {node.id: f"n{number}" for number, node in enumerate(lineage.nodes)}
    return "\n".join(["flowchart TD", *_lines(lineage, names)]) + "\n"


def _lines(lineage: Lineage, names: dict[str, str]) -> Iterator[str]:
    for node in lineage.nodes:
        left, right = _SHAPES.get(node.kind, ("[", "]"))
        yield f'  {names[node.id]}{left}"{_label(node)}"{right}'
    for edge in lineage.edges:
        yield f'  {names[edge.source]} -->|"{_escaped(edge.label)}"| {names[edge.target]}'
    lost = [names[node.id] for node in lineage.nodes if node.missing]
    if lost:
        yield "  classDef lost stroke-dasharray: 4 3"
        yield f"  class {','.join(lost)} lost"


def _label(node: Node) -> str:
    parts = [node.title, node.digest or "", f"! {node.missing}" if node.missing else ""]
    return "<br>".join(_escaped(part) for part in parts if part)


def _escaped(text: str) -> str:
    """A title is somebody else's: it may be taken neither for the chart's own signs nor for HTML or Markdown."""
    flat = " ".join(visible(text).split())
    return "".join(one if one.isalnum() or one in " .,:/-_@!+()" else f"#{ord(one)};" for one in flat)
