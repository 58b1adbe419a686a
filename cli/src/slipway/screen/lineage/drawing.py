"""A lineage as boxes and lines. Files are left out: the list below a drawing has them."""

from __future__ import annotations

from html import escape

from slipway.records.lineage import Lineage, Node
from slipway.screen.visible import visible

_WIDE, _BOX_HIGH, _GAP, _BETWEEN, _ROW = 680, 46, 12, 34, 4
_LETTERS = 6.6
"""Of the font, in units of the drawing."""


def svg(lineage: Lineage, label: str) -> str:
    """Returns the drawing: what is above was made of what is below."""
    rows = _rows(lineage)
    places: dict[str, tuple[float, float, float]] = {}
    y = 4.0
    for row in rows:
        wide = (_WIDE - 4 - _GAP * (len(row) - 1)) / len(row)
        wide = min(wide, 420.0)
        left = (_WIDE - wide * len(row) - _GAP * (len(row) - 1)) / 2
        for number, node in enumerate(row):
            places[node.id] = (left + number * (wide + _GAP), y, wide)
        y += _BOX_HIGH + _BETWEEN
    high = y - _BETWEEN + 4
    lines = [
        _line(places[edge.source], places[edge.target])
        for edge in lineage.edges
        if {edge.source, edge.target} <= places.keys()
    ]
    boxes = [_box(node, *places[node.id]) for row in rows for node in row]
    told = escape(label)
    return (
        f'<svg class="lineage" viewBox="0 0 {_WIDE} {high:.0f}" role="img" aria-label="{told}"><title>{told}</title>'
        f"{''.join([*lines, *boxes])}</svg>"
    )


def _rows(lineage: Lineage) -> list[list[Node]]:
    depths: dict[str, int] = {}
    wave, depth = [node.id for node in lineage.roots], 0
    while wave and depth <= len(lineage.nodes):
        for one in wave:
            depths.setdefault(one, depth)
        wave = [edge.target for one in wave for edge in lineage.after(one) if edge.target not in depths]
        depth += 1
    shown = [node for node in lineage.nodes if node.kind != "file" and node.id in depths]
    rows: list[list[Node]] = []
    for level in sorted({depths[node.id] for node in shown}):
        level_nodes = [node for node in shown if depths[node.id] == level]
        rows += [level_nodes[start : start + _ROW] for start in range(0, len(level_nodes), _ROW)]
    return rows


def _line(source: tuple[float, float, float], target: tuple[float, float, float]) -> str:
    x1, y1 = source[0] + source[2] / 2, source[1] + _BOX_HIGH
    x2, y2 = target[0] + target[2] / 2, target[1]
    bend = (y1 + y2) / 2
    return f'<path class="edge" d="M{x1:.1f} {y1:.1f} C{x1:.1f} {bend:.1f} {x2:.1f} {bend:.1f} {x2:.1f} {y2:.1f}"/>'


def _box(node: Node, x: float, y: float, wide: float) -> str:
    room = int((wide - 16) / _LETTERS)
    lost = " lost" if node.missing else ""
    digest = node.digest.removeprefix("sha256:")[:12] if node.digest else ""
    second = " · ".join(filter(None, [digest, "!" if node.missing else ""]))
    return (
        f'<rect class="box {node.kind}{lost}" x="{x:.1f}" y="{y:.1f}" width="{wide:.1f}" height="{_BOX_HIGH}" rx="5"/>'
        f'<text class="what" x="{x + 8:.1f}" y="{y + 19:.1f}">{escape(_fit(visible(node.title), room))}</text>'
        f'<text class="digest" x="{x + 8:.1f}" y="{y + 36:.1f}">{escape(second)}</text>'
    )


def _fit(text: str, room: int) -> str:
    """Cuts out the middle: of a path the end tells it apart. A Chinese character is as wide as two letters."""
    wide = sum(2 if ord(letter) > 0x2E80 else 1 for letter in text)
    if wide <= room:
        return text
    room = max(4, room if wide == len(text) else room // 2)
    return f"{text[: room // 3]}…{text[-(room - room // 3 - 1) :]}"
