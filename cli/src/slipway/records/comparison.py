"""Two runs side by side, or a run and what is live."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from slipway.records import answers, gates, settings
from slipway.records.answers import Shown
from slipway.records.gates import GateRow
from slipway.records.parts import PartFigure, of_parts
from slipway.records.record import LIVE, Record
from slipway.records.settings import Pair


@dataclass(frozen=True)
class Side:
    """What a run is compared with."""

    name: str
    record: Record | None = None
    """None where nothing is left of the run that made it: then what the other one's evaluation has of it is all."""
    digest: str | None = None
    """Of its model."""


@dataclass(frozen=True)
class Compared:
    """A metric that was measured of one of them, or of both."""

    name: str
    a: GateRow | None = None
    b: GateRow | None = None
    """The gate on it, of either; None where it has none."""
    a_value: float | None = None
    b_value: float | None = None

    @property
    def difference(self) -> float | None:
        return None if self.a_value is None or self.b_value is None else self.b_value - self.a_value


@dataclass(frozen=True)
class ComparedPart:
    """A metric of a source, a slice or a task, which was measured of both."""

    name: str
    metric: str
    a: PartFigure
    b: PartFigure

    @property
    def difference(self) -> float | None:
        return None if self.a.value is None or self.b.value is None else self.b.value - self.a.value


@dataclass(frozen=True)
class Comparison:
    a: Record
    b: Side
    metrics: Sequence[Compared]
    same_data: bool | None
    """Whether both were judged on the same held-out data; None where that is not known."""
    settings: Mapping[str, Pair] = field(default_factory=dict[str, Pair])
    data: Mapping[str, Pair] = field(default_factory=dict[str, Pair])
    changed: Sequence[Shown] = ()
    common: int = 0
    """Prompts that both answered."""
    parts: Sequence[ComparedPart] = ()
    """Of the sources, slices and tasks that both have."""

    @property
    def records(self) -> list[Record]:
        return [self.a, *([self.b.record] if self.b.record else [])]

    @property
    def names(self) -> tuple[str, str]:
        return self.a.name, self.b.name


def compare(a: Record, b: Side) -> Comparison:
    """Returns how two models differ. The difference of a figure is what `b` has more than `a`."""
    measured = beside(a, b.digest)
    if b.record is None:
        changed, common = answers.changed(a), len(a.live_samples) if measured is not None else 0
        return Comparison(
            a, b, _metrics(a, None, measured or {}), True if measured else None,
            changed=changed if common else (), common=common, parts=_parts(a, None) if measured is not None else (),
        )  # fmt: skip
    mine, other = settings.held_out(a), settings.held_out(b.record)
    same = None if mine is None or other is None else mine == other
    # Where the other one was measured beside this one, on the same rows, those are the figures to look at.
    figures = b.record.metrics if same or measured is None else {**b.record.metrics, **measured}
    changed, common = answers.changed_between(a, b.record)
    return Comparison(
        a, b, _metrics(a, b.record, figures), True if same is False and measured else same,
        settings.differences(a, b.record), settings.data_differences(a, b.record), changed, common,
        _parts(a, b.record if same or measured is None else None),
    )  # fmt: skip


def beside(record: Record, digest: str | None) -> Mapping[str, float] | None:
    """Returns what an evaluation measured of the live version, where that was the model of this digest."""
    live = record.report.get(LIVE)
    if digest is None or not isinstance(live, Mapping) or live.get("digest") != digest:
        return None
    of_gates = {row.name: row.live for row in gates.rows(record) if row.live is not None}
    return {**record.beside(LIVE), **of_gates}


def _metrics(a: Record, b: Record | None, figures: Mapping[str, float]) -> list[Compared]:
    mine, other = _by_metric(gates.rows(a)), _by_metric(gates.rows(b)) if b else {}
    names = list(dict.fromkeys([*mine, *other, *a.metrics, *figures]))
    return [
        Compared(name, mine.get(name), other.get(name), _value(name, mine, a.metrics), _value(name, other, figures))
        for name in names
    ]


def _parts(a: Record, b: Record | None) -> list[ComparedPart]:
    """Returns the figures of the parts that both have; of the other one what was measured beside `a` where `b` is
    None."""
    mine = {(one.name, one.metric): one for one in of_parts(a)}
    if b is None:
        other = {at: PartFigure(one.name, one.metric, one.live) for at, one in mine.items() if one.live is not None}
    else:
        other = {(one.name, one.metric): one for one in of_parts(b)}
    return [ComparedPart(*at, one, other[at]) for at, one in mine.items() if at in other]


def _by_metric(rows: Sequence[GateRow]) -> dict[str, GateRow]:
    """Returns a gate a metric: of several, the one on the figure itself, which has the figure's own bounds."""
    found: dict[str, GateRow] = {}
    for row in sorted(rows, key=lambda row: row.regression):
        found.setdefault(row.name, row)
    return found


def _value(name: str, rows: Mapping[str, GateRow], figures: Mapping[str, float]) -> float | None:
    if name in figures:
        return figures[name]
    return rows[name].value if name in rows else None
