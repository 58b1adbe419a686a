"""Drawings of a page: an interval against what is asked of it, and curves. Text that is drawn is escaped."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from slipway.records.gates import GateRow
from slipway.screen.plotting import SMOOTH_FROM, smooth
from slipway.training_metrics import Point

_WIDE, _HIGH, _EDGE = 300, 44, 12
_LINE_WIDE, _LINE_HIGH, _LEFT, _RIGHT, _TOP, _BOTTOM = 680, 210, 52, 10, 22, 26
_MOST_POINTS = 400
"""Points of a curve that are drawn: more are no wider than a pixel."""
DASHES = ("", "6 3", "2 3", "8 3 2 3")
"""Beside the colours, for who does not tell them apart, and for print."""


def interval(row: GateRow, label: str) -> str:
    """Draws one gate. The side that passes is shaded."""
    drawn = row.drawn
    marks = [one for one in _marks(row) if one is not None]
    if drawn is None or row.limit is None or not marks:
        return ""
    low, high = min(marks), max(marks)
    margin = 0.12 * (high - low) or 0.1 * abs(high) or 1.0
    low, high = low - margin, high + margin

    def across(value: float) -> float:
        return _EDGE + (_WIDE - 2 * _EDGE) * (value - low) / (high - low)

    limit, middle = across(row.limit), 16
    left, right = (limit, _WIDE - _EDGE) if row.at_least else (_EDGE, limit)
    parts = [
        f'<rect class="passes" x="{left:.1f}" y="4" width="{max(0.0, right - left):.1f}" height="24"/>',
        f'<line class="axis" x1="{_EDGE}" y1="28" x2="{_WIDE - _EDGE}" y2="28"/>',
        f'<line class="limit" x1="{limit:.1f}" y1="2" x2="{limit:.1f}" y2="31"/>',
        f'<text class="limit" x="{limit:.1f}" y="42" text-anchor="{_anchor(limit)}">{row.limit:.4g}</text>',
    ]
    if row.regression:
        zero = across(0.0)
        parts.append(f'<line class="zero" x1="{zero:.1f}" y1="4" x2="{zero:.1f}" y2="28"/>')
        if abs(zero - limit) > 40:
            parts.append(f'<text x="{zero:.1f}" y="42" text-anchor="{_anchor(zero)}">0</text>')
    if row.lower is not None and row.upper is not None:
        a, b = across(row.lower), across(row.upper)
        parts.append(f'<line class="interval" x1="{a:.1f}" y1="{middle}" x2="{b:.1f}" y2="{middle}"/>')
        parts += [f'<line class="cap" x1="{x:.1f}" y1="{middle - 5}" x2="{x:.1f}" y2="{middle + 5}"/>' for x in (a, b)]
    parts += [_other(across(value), kind) for value, kind in _others(row)]
    parts.append(f'<circle class="point" cx="{across(drawn):.1f}" cy="{middle}" r="4.5"/>')
    return _svg(_WIDE, _HIGH, "gate", label, parts)


def _marks(row: GateRow) -> list[float | None]:
    return [row.drawn, row.limit, row.lower, row.upper, 0.0 if row.regression else None, *(v for v, _ in _others(row))]


def _others(row: GateRow) -> list[tuple[float, str]]:
    """Returns the live version and the base where they are on the same scale: a difference has another one."""
    if row.regression:
        return []
    return [(value, kind) for value, kind in ((row.live, "live"), (row.base, "base")) if value is not None]


def _other(x: float, kind: str) -> str:
    shape = f"{x:.1f},9 {x + 6:.1f},16 {x:.1f},23 {x - 6:.1f},16"
    if kind == "base":
        shape = f"{x:.1f},9 {x + 6:.1f},22 {x - 6:.1f},22"
    return f'<polygon class="{kind}" points="{shape}"/>'


def _anchor(x: float) -> str:
    return "start" if x < 40 else "end" if x > _WIDE - 40 else "middle"


@dataclass(frozen=True)
class Series:
    name: str
    points: Sequence[Point]
    place: int = 0
    """Its colour and dash."""
    dots: bool = False
    """Whether each point is marked: where they are few."""
    smooth: bool = False
    """Whether a long one is drawn smoothed, with the raw one pale behind it."""


def curves(
    title: str,
    series: Sequence[Series],
    label: str,
    *,
    parts: Sequence[tuple[str, int]] = (),
    steps: str = "",
    from_zero: bool = False,
) -> str:
    """Draws curves over the steps.

    Args:
        label: what is told to who does not see it.
        parts: name and first step of each stage.
        steps: what is written below.
        from_zero: whether the scale begins there.
    """
    finite = [(one, [point for point in one.points if math.isfinite(point.value)]) for one in series]
    values = sorted(point.value for _, points in finite for point in points)
    if not values:
        return ""
    last = max(point.step for _, points in finite for point in points)
    low, high = min(0.0, values[0]) if from_zero else values[0], _top(values)
    low, high = (low, high) if high > low else (low - 0.5, high + 0.5)
    wide, tall = _LINE_WIDE - _LEFT - _RIGHT, _LINE_HIGH - _TOP - _BOTTOM

    def place(point: Point) -> tuple[float, float]:
        share = (min(point.value, high) - low) / (high - low)
        return _LEFT + wide * point.step / max(last, 1), _TOP + tall * (1 - share)

    drawn = [f'<text x="0" y="12" class="title">{escape(title)}</text>']
    for tick in _ticks(low, high):
        y = _TOP + tall * (1 - (tick - low) / (high - low))
        drawn.append(f'<line class="axis" x1="{_LEFT}" y1="{y:.1f}" x2="{_LINE_WIDE - _RIGHT}" y2="{y:.1f}"/>')
        drawn.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{_short(tick)}</text>')
    for number, (name, start) in enumerate(parts):
        x = _LEFT + wide * start / max(last, 1)
        if number:
            drawn.append(f'<line class="part" x1="{x:.1f}" y1="{_TOP}" x2="{x:.1f}" y2="{_TOP + tall}"/>')
        drawn.append(f'<text x="{x + 4:.1f}" y="{_LINE_HIGH - _BOTTOM + 14}">{escape(name[:24])}</text>')
    for one, points in finite:
        if one.smooth and len(points) >= SMOOTH_FROM:
            raw = " ".join(f"{x:.1f},{y:.1f}" for x, y in map(place, _thinned(points)))
            drawn.append(f'<polyline class="raw c{one.place % 4}" points="{raw}"/>')
            means = smooth([point.value for point in points], span=max(5, len(points) // 40))
            points = [Point(point.step, mean) for point, mean in zip(points, means, strict=True)]
        drawn += _curve(one, [place(point) for point in _thinned(points)])
    x, y = _LINE_WIDE - _RIGHT, _LINE_HIGH - _BOTTOM + 14
    drawn.append(f'<text x="{x}" y="{y}" text-anchor="end">{escape(steps)} {last:,}</text>')
    return _svg(_LINE_WIDE, _LINE_HIGH, "curves", label, drawn)


def _curve(one: Series, points: list[tuple[float, float]]) -> list[str]:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dash = DASHES[one.place % len(DASHES)]
    dashed = f' stroke-dasharray="{dash}"' if dash else ""
    drawn = [f'<polyline class="c{one.place % 4}" points="{path}"{dashed}/>']
    if one.dots or len(points) == 1:
        drawn += [f'<circle class="d{one.place % 4}" cx="{x:.1f}" cy="{y:.1f}" r="2.5"/>' for x, y in points]
    return drawn


def legend(series: Sequence[Series]) -> str:
    """Returns which line is which; nothing where there is one alone."""
    if len(series) < 2:
        return ""
    return "".join(f"<span>{_swatch(one.place)} <bdi>{escape(one.name)}</bdi></span>" for one in series)


def _swatch(place: int) -> str:
    dash = DASHES[place % len(DASHES)]
    dashed = f' stroke-dasharray="{dash}"' if dash else ""
    line = f'<line class="c{place % 4}" x1="0" y1="5" x2="26" y2="5"{dashed}/>'
    return f'<svg class="swatch" viewBox="0 0 26 10" aria-hidden="true">{line}</svg>'


def _thinned(points: Sequence[Point]) -> Sequence[Point]:
    """Returns no more points than can be drawn: of each few neighbours the lowest and the highest, in their order."""
    if len(points) <= _MOST_POINTS:
        return points
    size = math.ceil(2 * len(points) / _MOST_POINTS)
    kept: list[Point] = []
    for start in range(0, len(points), size):
        few = points[start : start + size]
        ends = {min(few, key=lambda point: point.value), max(few, key=lambda point: point.value)}
        kept += sorted(ends, key=lambda point: point.step)
    return kept


def _top(values: Sequence[float]) -> float:
    """Leaves out the top of a curve that went through the roof, so that the rest can still be read."""
    usual = values[int(0.98 * (len(values) - 1))]
    return values[-1] if usual <= 0 or values[-1] <= 4 * usual else 2 * usual


def _ticks(low: float, high: float) -> list[float]:
    raw = (high - low) / 4
    size = 10 ** math.floor(math.log10(raw))
    step = next(one * size for one in (1, 2, 2.5, 5, 10) if one * size >= raw)
    first = math.ceil(low / step)
    return [number * step for number in range(first, math.floor(high / step) + 1)]


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _svg(wide: float, high: float, kind: str, label: str, parts: Sequence[str]) -> str:
    told = escape(label)
    return (
        f'<svg class="{kind}" viewBox="0 0 {wide} {high}" role="img" aria-label="{told}">'
        f"<title>{told}</title>{''.join(parts)}</svg>"
    )
