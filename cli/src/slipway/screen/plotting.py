"""The curves of a run as a picture."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slipway.training_metrics import Point, StageMetrics

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_FONTS = ("DejaVu Sans", "Noto Sans CJK SC", "Source Han Sans SC", "WenQuanYi Micro Hei", "WenQuanYi Zen Hei", "SimHei")
"""The first one draws what it can; names in Chinese fall through to those that the machine has."""
_TRAIN, _VALIDATION, _RATE, _SPEED, _INK = "#1f6f8b", "#d1495b", "#5b8e3a", "#7a5195", "#555555"
_SHARES = {"data": "#e0a458", "communication": "#7a5195", "validation": "#d1495b", "checkpoint": "#5b8e3a"}
"""Parts of the time that are no computing, from the bottom up."""
SMOOTH_FROM = 120
"""Points from which the curve is smoothed, with the raw one pale behind it."""


def draw(title: str, stages: Sequence[StageMetrics], path: Path) -> None:
    """Writes losses, learning rate, throughput and what else is known of all stages, one after the other, to a PNG,
    SVG or PDF.

    Raises ValueError for another suffix.
    """
    import matplotlib
    from matplotlib import font_manager
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    installed = {font.name for font in font_manager.fontManager.ttflist}
    style: Any = {
        "font.family": [font for font in _FONTS if font in installed],
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.edgecolor": "#999999",
        "axes.grid": True,
        "grid.color": "#e6e6e6",
        "xtick.color": _INK,
        "ytick.color": _INK,
        "svg.fonttype": "none",
    }
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(9, 7.5 + 1.5 * len(_known(stages))), dpi=150, layout="constrained")
        FigureCanvasAgg(figure)
        fill(figure, title, stages)
        figure.savefig(path)


def fill(figure: Figure, title: str, stages: Sequence[StageMetrics]) -> None:
    """Draws into a figure."""
    more = _known(stages)
    losses, rates, speeds, *others = figure.subplots(
        3 + len(more), 1, sharex=True, height_ratios=[3, 1, 1, *(1 for _ in more)]
    )
    figure.suptitle(title, x=0.01, ha="left", fontweight="bold")
    starts = _starts(stages)
    for stage, start in zip(stages, starts, strict=True):
        first = start == 0
        _line(losses, stage.loss, start, _TRAIN, "training" if first else None)
        _validation(losses, stage.validation_loss, start, first)
        _line(rates, stage.learning_rate, start, _RATE, exact=True)
        _line(speeds, stage.tokens_per_second, start, _SPEED)
    for axes, panel in zip(others, more, strict=True):
        panel(axes, stages, starts)
    _separate((losses, rates, speeds, *others), stages, starts)
    losses.set_ylabel("loss (nats a token)")
    rates.set_ylabel("learning rate")
    speeds.set_ylabel("tokens/s")
    [speeds, *others][-1].set_xlabel("optimizer step, over all stages")
    rates.ticklabel_format(axis="y", style="sci", scilimits=(-2, 2))
    speeds.set_ylim(bottom=0)
    if losses.get_legend_handles_labels()[0]:
        losses.legend(loc="upper right", frameon=False)
    losses.set_xlim(0, max(1, starts[-1] + stages[-1].last_step))
    _clip(losses, stages)


Panel = Callable[["Axes", Sequence[StageMetrics], Sequence[int]], None]


def _known(stages: Sequence[StageMetrics]) -> list[Panel]:
    """Returns what draws the figures that not every training has, of those that these have."""
    panels: list[tuple[Panel, bool]] = [
        (_accuracy, any(stage.accuracy for stage in stages)),
        (_margin, any(stage.margin for stage in stages)),
        (_utilisation, any(stage.mfu for stage in stages)),
        (_time, any(stage.data_share for stage in stages)),
        (_memory, any(stage.peak_memory_bytes for stage in stages)),
    ]
    return [panel for panel, known in panels if known]


def _accuracy(axes: Axes, stages: Sequence[StageMetrics], starts: Sequence[int]) -> None:
    for stage, start in zip(stages, starts, strict=True):
        _line(axes, stage.accuracy, start, _TRAIN)
        steps, values = _finite(stage.validation_accuracy, start)
        axes.plot(steps, values, color=_VALIDATION, linewidth=1.4, marker="o", markersize=3)
    axes.set_ylabel("accuracy")
    axes.set_ylim(0, 1.05)


def _margin(axes: Axes, stages: Sequence[StageMetrics], starts: Sequence[int]) -> None:
    for stage, start in zip(stages, starts, strict=True):
        _line(axes, stage.margin, start, _TRAIN)
    axes.set_ylabel("margin")


def _utilisation(axes: Axes, stages: Sequence[StageMetrics], starts: Sequence[int]) -> None:
    for stage, start in zip(stages, starts, strict=True):
        _line(axes, [Point(p.step, 100 * p.value) for p in stage.mfu], start, _SPEED)
    axes.set_ylabel("MFU, %")
    axes.set_ylim(bottom=0)


def _time(axes: Axes, stages: Sequence[StageMetrics], starts: Sequence[int]) -> None:
    """Draws what is no computing, one on the other."""
    drawn = False
    for stage, start in zip(stages, starts, strict=True):
        if not stage.data_share:
            continue
        steps = [start + point.step for point in stage.data_share]
        curves = [[100 * p.value for p in getattr(stage, f"{part}_share")] for part in _SHARES]
        axes.stackplot(
            steps,
            [curve if len(curve) == len(steps) else [0.0] * len(steps) for curve in curves],
            colors=list(_SHARES.values()),
            labels=() if drawn else list(_SHARES),
            linewidth=0,
        )
        drawn = True
    axes.set_ylabel("time beside\ncomputing, %")
    axes.set_ylim(bottom=0)
    axes.legend(loc="upper right", frameon=False, ncols=len(_SHARES), fontsize=7)


def _memory(axes: Axes, stages: Sequence[StageMetrics], starts: Sequence[int]) -> None:
    for stage, start in zip(stages, starts, strict=True):
        _line(axes, [Point(p.step, p.value / 2**30) for p in stage.peak_memory_bytes], start, _INK, exact=True)
    axes.set_ylabel("peak memory, GiB")
    axes.set_ylim(bottom=0)


def _starts(stages: Sequence[StageMetrics]) -> list[int]:
    """Returns the step at which each stage starts when they are laid end to end."""
    starts = [0]
    for stage in stages[:-1]:
        starts.append(starts[-1] + stage.last_step)
    return starts


def _line(
    axes: Axes, curve: Sequence[Point], start: int, colour: str, label: str | None = None, *, exact: bool = False
) -> None:
    steps, values = _finite(curve, start)
    if len(values) >= SMOOTH_FROM and not exact:
        axes.plot(steps, values, color=colour, alpha=0.25, linewidth=0.8)
        values = smooth(values, span=max(5, len(values) // 40))
    axes.plot(steps, values, color=colour, linewidth=1.6, label=label, marker="o" if len(values) == 1 else None)


def _validation(axes: Axes, curve: Sequence[Point], start: int, first: bool) -> None:
    steps, values = _finite(curve, start)
    if not values:
        return
    style = {"color": _VALIDATION, "linewidth": 1.4, "marker": "o", "markersize": 3}
    labelled = any(line.get_label() == "validation" for line in axes.get_lines())
    axes.plot(steps, values, label=None if labelled else "validation", **style)
    lowest = min(range(len(values)), key=values.__getitem__)
    place = (steps[lowest], values[lowest])
    axes.annotate(
        f"{values[lowest]:.3f}", place, xytext=(0, 7), textcoords="offset points",
        ha="center", color=_VALIDATION, fontsize=8,
    )  # fmt: skip


def _separate(panels: Iterable[Axes], stages: Sequence[StageMetrics], starts: Sequence[int]) -> None:
    """Draws a line where a stage begins, and writes the names of the stages above the first panel."""
    for index, axes in enumerate(panels):
        for stage, start in zip(stages, starts, strict=True):
            if start:
                axes.axvline(start, color="#999999", linewidth=0.8, linestyle=(0, (4, 3)))
            if index == 0 and stage.last_step:
                middle = start + stage.last_step / 2
                axes.annotate(
                    stage.name, (middle, 1), xycoords=("data", "axes fraction"), xytext=(0, 4),
                    textcoords="offset points", ha="center", color=_INK,
                )  # fmt: skip


def _clip(axes: Axes, stages: Sequence[StageMetrics]) -> None:
    """Leaves out the top of a curve that went through the roof, so that the rest can still be read."""
    values = sorted(
        p.value for stage in stages for p in (*stage.loss, *stage.validation_loss) if math.isfinite(p.value)
    )
    if not values:
        return
    low, high = values[0], values[-1]
    usual = values[int(0.98 * (len(values) - 1))]
    top = high if high <= 4 * usual else 2 * usual
    margin = 0.05 * max(top - low, 1e-6)
    axes.set_ylim(max(0.0, low - 3 * margin), top + margin)


def smooth(values: Sequence[float], span: int) -> list[float]:
    """Returns the exponential moving average with the bias of its start taken out (Kingma & Ba 2015, section 3)."""
    keep = 1 - 2 / (span + 1)
    mean, weight, out = 0.0, 0.0, list[float]()
    for value in values:
        mean = keep * mean + (1 - keep) * value
        weight = keep * weight + (1 - keep)
        out.append(mean / weight)
    return out


def _finite(curve: Sequence[Point], start: int) -> tuple[list[int], list[float]]:
    points = [point for point in curve if math.isfinite(point.value)]
    return [start + point.step for point in points], [point.value for point in points]
