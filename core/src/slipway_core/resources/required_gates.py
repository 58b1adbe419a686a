"""Whether a model was judged by what an endpoint requires. Pure.

A gate answers a required one where it is about the same thing and is nowhere weaker: its metric, task, source, slice
and `against` are the same, so is what it says (max, min or maxRegression), its threshold lets through no more, its
confidence and minTokens are no less, and it was measured on the data that is asked for, if any is. One gate alone has
to be all of that: two that are each weaker elsewhere are none. What is compared with the live version was compared with
one of that endpoint: another may serve whatever is bad enough. That comparison is asked of newcomers, and not of what
the endpoint has had live.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from slipway_core.resources.asked import AskedFigures
from slipway_core.resources.evaluation import DEFAULT_CONFIDENCE, POINT, Gate
from slipway_core.resources.gate_metrics import POINT_METRICS, SCORED_METRICS, WIN_RATE, titled
from slipway_core.resources.judge import Compared
from slipway_core.resources.promotion import RequiredGate
from slipway_core.resources.status import AskedStatus, MetricStatus, Verdict, VersionStatus

_LIVE = "Live"
HAD_TRAFFIC = ("Standby", "Retired")
"""States of versions that were live and did not fail."""
_THRESHOLDS = ("max", "min", "max_regression")
_NAMES = {"max": "max", "min": "min", "max_regression": "maxRegression"}


@dataclass(frozen=True)
class PassedGate:
    """A gate that a model has passed, or that there was nothing to compare with for."""

    gate: Gate
    """Its confidence is what it was judged with; None takes the figure as it is."""
    compared: bool = True
    """False of a comparison with the live version, where none was live."""
    beside: str | None = None
    """Digest of the live version of then, where one was compared with."""
    data: str | None = None
    """Digest of what it was measured on; None where nobody says it."""
    foreseen: bool = False
    """Whether it is still to be measured: where nobody says on what, that is not known yet."""


@dataclass(frozen=True)
class Shortfall:
    """What a model lacks of one required gate."""

    required: RequiredGate
    why: str
    missing: bool
    """Whether no gate is about the same thing at all."""

    def __str__(self) -> str:
        return f"{describe(self.required)}: {self.why}"


def served_beside(digest: str, live: VersionStatus | None, history: Iterable[VersionStatus]) -> frozenset[str]:
    """Returns the models that an endpoint serves, and served before, where one is live that is not this one: what a
    model was compared with is among them, or it has evaded the comparison. Nothing where there is none to evade. One
    that failed may have been live until its probation ended, and has had what the endpoint asked for."""
    if live is None or live.digest == digest:
        return frozenset()
    return frozenset({live.digest, *(one.digest for one in history if one.state in ("Standby", "Retired", "Failed"))})


def held_against(
    required: Iterable[RequiredGate], digest: str, live: VersionStatus | None, history: Iterable[VersionStatus]
) -> list[RequiredGate]:
    """Returns which of the required gates a model has to answer: all of them, but for those that compare with the live
    version where the model is that version, or was it.

    Such a gate asks whether a newcomer is as good as what people have. A rollback is for the hour in which that is not
    good enough, and the first version was compared with nothing. What failed is nothing to go back to, and it may have
    failed before it had any traffic.
    """
    had_traffic = {one.digest for one in history if one.state in HAD_TRAFFIC}
    comes_back = digest in had_traffic or (live is not None and live.digest == digest)
    return [gate for gate in required if not (comes_back and compares_with_live(gate))]


def compares_with_live(gate: Gate) -> bool:
    """Whether a gate asks how much worse than the live version a model is."""
    return _compared_with(gate) == _LIVE


def shortfalls(
    required: Iterable[RequiredGate], passed: Sequence[PassedGate], *, beside: Collection[str]
) -> list[Shortfall]:
    """Returns what a model lacks of the gates that are required; nothing where each is answered.

    Args:
        required: of the endpoint.
        passed: the gates that the model has passed, or is going to be judged by.
        beside: as `served_beside` returns it; empty also where nothing was compared yet.
    """
    found = (_shortfall(gate, passed, beside) for gate in required)
    return [one for one in found if one is not None]


def answering(required: RequiredGate, passed: Sequence[PassedGate]) -> int | None:
    """Returns the number of the first gate that answers a required one beside no live version; None where none does."""
    about = _about(required)
    found = (n for n, one in enumerate(passed) if _about(one.gate) == about and not _weaknesses(required, one, ()))
    return next(found, None)


def asked_of(gates: Sequence[Gate], data: Sequence[str | None] = ()) -> list[PassedGate]:
    """Returns what a model will have passed that passes the gates of a plan.

    Args:
        data: of each gate, the digest of what it is going to be measured on, once that is known.
    """
    known = data if len(data) == len(gates) else [None] * len(gates)
    return [PassedGate(gate, data=digest, foreseen=True) for gate, digest in zip(gates, known, strict=True)]


def passed_of(metrics: Iterable[MetricStatus], baseline: str | None = None) -> list[PassedGate]:
    """Returns the gates that an evaluation says the model passed. Of one that does not say what was asked, as those of
    earlier releases, nothing is known, so it answers no required gate.

    Args:
        baseline: digest of the live version that the model was compared with.
    """
    found = (
        passed_gate(one.name, one.source, one.slice, one.task, one.verdict, one.asked, baseline, one.data)
        for one in metrics
    )
    return [one for one in found if one is not None]


def passed_gate(
    metric: str,
    source: str | None,
    slice: str | None,
    task: str | None,
    verdict: Verdict,
    asked: AskedFigures | None,
    baseline: str | None = None,
    data: str | None = None,
) -> PassedGate | None:
    """Returns a gate as a verdict tells it; None of one that was not passed, or of which nobody says what it asked."""
    if asked is None or verdict not in (Verdict.PASS, Verdict.NOT_APPLICABLE):
        return None
    said = {
        "metric": metric,
        "task": task,
        "source": source,
        "slice": slice,
        **{name: getattr(asked, name) for name in AskedFigures.model_fields},
    }
    try:
        gate = Gate.model_validate(said, by_alias=False, by_name=True)
    except ValidationError:
        # A newer release judged it by something that is not known here; or a judge did, whose figures none requires.
        return None
    return PassedGate(gate, compared=verdict is Verdict.PASS, beside=baseline, data=data)


def record_of(gate: Gate, win_rate_over: Compared | None = None) -> AskedStatus:
    """Returns what a verdict says of what a gate asked.

    Args:
        win_rate_over: what win_rate compares with.
    """
    return AskedStatus(
        max=gate.max,
        min=gate.min,
        max_regression=gate.max_regression,
        against=win_rate_over if gate.metric == WIN_RATE and gate.task is None else gate.against,
        min_tokens=gate.min_tokens,
        confidence=gate.confidence,
    )


def describe(gate: Gate) -> str:
    """Returns a gate as a person writes it: `perplexity of source web, max 20 on sha256:…`. Figures are written out:
    two that differ must not look alike."""
    name = _threshold(gate)
    against = f" against {gate.against or _LIVE}" if name == "max_regression" else ""
    what = titled(gate.metric, gate.source, gate.slice, gate.task)
    on = f" on {gate.data}" if isinstance(gate, RequiredGate) and gate.data is not None else ""
    return f"{what}, {_NAMES[name]} {_figure(getattr(gate, name))}{against}{on}"


def _shortfall(required: RequiredGate, passed: Sequence[PassedGate], beside: Collection[str]) -> Shortfall | None:
    same = [one for one in passed if _about(one.gate) == _about(required)]
    if not same:
        return Shortfall(required, "no gate asks that", missing=True)
    weaknesses = min((_weaknesses(required, one, beside) for one in same), key=len)
    return Shortfall(required, "; ".join(weaknesses), missing=False) if weaknesses else None


def _about(gate: Gate) -> tuple[object, ...]:
    return gate.metric, gate.task, gate.source, gate.slice, _compared_with(gate), _threshold(gate)


def _compared_with(gate: Gate) -> str | None:
    return gate.against or _LIVE if gate.max_regression is not None else None


def _threshold(gate: Gate) -> str:
    return next(name for name in _THRESHOLDS if getattr(gate, name) is not None)


def _weaknesses(required: RequiredGate, passed: PassedGate, beside: Collection[str]) -> list[str]:
    gate, found = passed.gate, list[str]()
    name = _threshold(required)
    was, must = float(getattr(gate, name)), float(getattr(required, name))
    if (was < must) if name == "min" else (was > must):
        bound = "least" if name == "min" else "most"
        found.append(f"{_NAMES[name]} is {_figure(was)}, and must be at {bound} {_figure(must)}")
    sure, must_be = gate.confidence or POINT, required.confidence or DEFAULT_CONFIDENCE
    if (required.task is not None or required.metric not in POINT_METRICS) and sure < must_be:
        found.append(f"confidence is {_figure(sure)}, and must be at least {_figure(must_be)}")
    if required.task is None and required.metric in SCORED_METRICS and gate.min_tokens < required.min_tokens:
        found.append(f"minTokens is {gate.min_tokens}, and must be at least {required.min_tokens}")
    unknown_yet = passed.foreseen and passed.data is None
    if required.data is not None and passed.data != required.data and not unknown_yet:
        measured = passed.data or "data of which no digest is known, since an earlier release judged or prepared it"
        found.append(f"it is measured on {measured}, and must be on {required.data}")
    if beside and not passed.compared:
        found.append("no version was live to compare with when it was judged, and one is now")
    elif beside and compares_with_live(gate) and passed.beside not in beside:
        found.append(f"it was compared with {passed.beside or 'a model that nobody names'}, which was never live here")
    return found


def _figure(value: float) -> str:
    return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
