"""A lineage as a tree of boxes. Files are left out: the list below a drawing has them."""

from __future__ import annotations

from html import escape

from slipway.records.lineage_graph import Lineage, Node
from slipway.screen.visible import visible

_WIDE, _BOX_HIGH, _BETWEEN, _INDENT = 680, 30, 8, 26
_LETTER = 7.0
"""Width of one, in units of the drawing; a Chinese character is as wide as two."""
_DIGEST = 12
"""Digits of a digest that are drawn."""


def svg(lineage: Lineage, label: str) -> str:
    """Returns the drawing: what is indented below a box is what that was made of. What is drawn already, because two
    were made of it, is not drawn again."""
    rows = _rows(lineage)
    parts: list[str] = []
    for number, (node, edge, depth, parent) in enumerate(rows):
        y = 2 + number * (_BOX_HIGH + _BETWEEN)
        if parent is not None:
            top = 2 + parent * (_BOX_HIGH + _BETWEEN) + _BOX_HIGH
            x = 2 + (depth - 1) * _INDENT + _INDENT / 2
            parts.append(f'<path class="edge" d="M{x} {top} V{y + _BOX_HIGH / 2} H{2 + depth * _INDENT}"/>')
        parts.append(_box(node, edge, 2 + depth * _INDENT, y))
    high = 4 + len(rows) * (_BOX_HIGH + _BETWEEN)
    told = escape(label)
    return (
        f'<svg class="lineage" viewBox="0 0 {_WIDE} {high}" role="img" aria-label="{told}"><title>{told}</title>'
        f"{''.join(parts)}</svg>"
    )


_Row = tuple[Node, str, int, int | None]
"""A node, how the one above came by it, how deep it is, and the row of that one."""


def _rows(lineage: Lineage) -> list[_Row]:
    rows: list[_Row] = []
    seen: set[str] = set()

    def add(node: Node, edge: str, depth: int, parent: int | None) -> None:
        if node.kind == "file" or node.id in seen:
            return
        seen.add(node.id)
        mine = len(rows)
        # Deeper ones would have no room: that they lie below is still seen from the lines.
        rows.append((node, edge, min(depth, 10), parent))
        for one in lineage.after(node.id):
            add(lineage.node(one.target), one.label, depth + 1, mine)

    for root in lineage.roots:
        add(root, "", 0, None)
    return rows


def _box(node: Node, edge: str, x: float, y: float) -> str:
    wide = _WIDE - 2 - x
    lost = " lost" if node.missing else ""
    digest = node.digest.removeprefix("sha256:")[:_DIGEST] if node.digest else ""
    end = " ".join(filter(None, [digest, "!" if node.missing else ""]))
    before = f'<tspan class="how">{escape(edge)} </tspan>' if edge else ""
    room = int((wide - 16) / _LETTER) - len(edge) - (len(end) + 2 if end else 0)
    return (
        f'<rect class="box {node.kind}{lost}" x="{x:g}" y="{y:g}" width="{wide:g}" height="{_BOX_HIGH}" rx="5"/>'
        f'<text class="what" x="{x + 8:g}" y="{y + 19:g}">{before}{escape(_fit(visible(node.title), room))}</text>'
        f'<text class="digest" x="{_WIDE - 10}" y="{y + 19:g}" text-anchor="end">{escape(end)}</text>'
    )


def _fit(text: str, room: int) -> str:
    """Leaves out the beginning of an address, and the end of anything else: that is where they are alike."""
    wide = sum(2 if ord(letter) > 0x2E80 else 1 for letter in text)
    if wide <= room:
        return text
    room = max(4, room if wide == len(text) else room // 2)
    return f"…{text[-(room - 1) :]}" if "://" in text else f"{text[: room - 1]}…"
