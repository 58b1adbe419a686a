"""What is said of a run, by its page and at the terminal alike."""

from __future__ import annotations

from collections.abc import Sequence

from slipway.records import gates
from slipway.records import judge as judges
from slipway.records.gates import GateRow
from slipway.records.record import Record
from slipway.screen.report.words import Words
from slipway_core.resources.conditions import NOT_ANSWERING, STOPPED, find
from slipway_core.resources.gate_metrics import unit
from slipway_core.resources.status import StepState, Verdict
from slipway_core.rollout import wear

_MOST = 3
"""Gates that a sentence names: a run may have 32."""


def verdict(record: Record, words: Words) -> str:
    """Returns how a run was judged and why, in one sentence."""
    return f"{words(gates.kind(record))}: {why(record, words)}"


def why(record: Record, words: Words) -> str:
    """Returns why a run stands as it does."""
    how, status = gates.kind(record), record.status
    rows = gates.rows(record)
    if how == "Passed":
        held = sum(row.verdict is Verdict.PASS for row in rows)
        return words("why_one_passed") if held == 1 else words("why_passed", n=held)
    if how in ("Failed", "Inconclusive"):
        told = words("joint").join(_some([gate(row, words) for row in _decided(record, rows)], words))
        reason = record.evaluation.reason if record.evaluation else None
        return f"{told}{words('end')}" if told else reason or words("why_no_gate")
    if how == "NotApplicable":
        return words("why_no_gate")
    if how == "UnderWay":
        done = sum(step.state is StepState.SUCCEEDED for step in status.stages)
        return words("why_underway", phase=status.phase.value, done=done, all=len(status.stages))
    if how == "Broken":
        failed = next((step for step in status.stages if step.state is StepState.FAILED), None)
        if failed is None:
            return words("why_broken_unknown")
        return words("why_broken", step=failed.name, message=failed.message or words("why_broken_unknown"))
    return words("why_unjudged", phase=status.phase.value)


def _decided(record: Record, rows: Sequence[GateRow]) -> list[GateRow]:
    """Returns the gates by which a run did not pass."""
    wanted = Verdict.FAIL if gates.kind(record) == "Failed" else Verdict.INCONCLUSIVE
    return [row for row in rows if row.verdict is wanted]


def reasons(record: Record, words: Words) -> list[str]:
    """Returns why gates came out as they did, where the sentence of the run does not say it: a line for all that have
    the same reason."""
    rows = gates.rows(record)
    told = _decided(record, rows)[:_MOST] if gates.kind(record) in ("Failed", "Inconclusive") else []
    same: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        if row.reason and row.verdict is not Verdict.PASS and row not in told:
            same.setdefault((words.verdict(row.verdict.value), row.reason), []).append(row.name)
    return [f"{verdict}: {words('listing').join(_some(names, words))}: {why}" for (verdict, why), names in same.items()]


def _some(told: list[str], words: Words) -> list[str]:
    """Returns the first few, and how many more there are."""
    more = len(told) - _MOST
    return [*told[:_MOST], words("more", n=more)] if more > 0 else told


def gate(row: GateRow, words: Words) -> str:
    """Returns how one gate came out."""
    if row.value is None:
        told = words("gate_none", name=row.name, threshold=row.threshold)
    else:
        told = words("gate_is", name=row.name, figure=figure(row, words), threshold=row.threshold)
    return f"{told}: {row.reason}" if row.reason else told


def figure(row: GateRow, words: Words) -> str:
    """Returns what was measured: with its bounds, or with how much worse it is and theirs."""
    if row.value is None:
        return "–"
    if row.difference is None:
        return bounded(row.value, row.lower, row.upper, words)
    worse = bounded(row.difference, row.lower, row.upper, words)
    return words("worse", value=number(row.value), difference=worse)


def judge(record: Record, words: Words) -> list[str]:
    """Returns what is said of the judge model of an evaluation; nothing without one."""
    told = judges.of_record(record)
    if told is None:
        return []
    lines = [
        words(
            "judge",
            model=told.model,
            url=told.url,
            questions=f"{told.questions:,}",
            unanswered=f"{told.unanswered:,}",
            file=told.transcript,
        )
    ]
    beside = words("judge_beside", compare=told.compare) if told.compare is not None else ""
    lines.append(words("judge_by", beside=beside, repeats=told.repeats, criteria=told.criteria))
    lines += [words("judge_controls", told=apart, shown=shown) for apart, shown in told.controls]
    if told.trouble is not None:
        lines.append(words("judge_trouble", why=told.trouble))
    for one in told.agreed:
        for key, share in (("judge_orders", one.orders), ("judge_repeats", one.repeats)):
            if share is not None:
                lines.append(words(key, of=one.of, share=f"{share:.2f}"))
    return lines


def beside(row: GateRow, value: float | None, words: Words) -> str:
    """Returns a figure beside that of another run: the bounds of a regression are those of its difference from a third
    model, and none of the figure."""
    if value is None or row.regression:
        return number(value)
    return bounded(value, row.lower, row.upper, words)


def bounded(value: float, lower: float | None, upper: float | None, words: Words) -> str:
    if lower is None or upper is None:
        return number(value)
    return words("bounds", figure=number(value), lower=number(lower), upper=number(upper))


def number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"


def intervals(rows: Sequence[GateRow], words: Words) -> str | None:
    """Returns how wide the intervals are that bounds make together, each of which holds by itself with the gate's
    confidence; None where there are none."""
    confidences = sorted({row.confidence for row in rows if row.confidence is not None})
    percents = list(dict.fromkeys(f"{100 * (2 * one - 1):.4g} %" for one in confidences))
    if not percents:
        return None
    if len(percents) == 1:
        return words("interval_one", percent=percents[0])
    return words("interval_some", percents=words("listing").join(percents[:-1]), percent=percents[-1])


def rests_on(row: GateRow, clusters: int, words: Words) -> str:
    """Returns of how many of what the bounds of a gate are made."""
    of = "task" if row.task is not None else unit(row.metric)
    return words(f"rests_on_{of}", n=f"{clusters:,}")


def facts(record: Record, words: Words) -> list[str]:
    """Returns where a run is."""
    status = record.status
    told = [words("phase", phase=status.phase.value)]
    if record.evaluation is not None:
        told.append(words("number", n=record.evaluation.number))
    if status.endpoint is not None and status.phase.value == "Serving":
        live = find(status.conditions, "Live")
        silent = live.reason if live is not None and live.status == "False" else None
        how = {STOPPED: "stopped", NOT_ANSWERING: "silent"}.get(silent or "", "serves")
        told.append(words(how, endpoint=status.endpoint.name, version=status.endpoint.version or "–"))
    return told


def worn(record: Record, words: Words) -> str | None:
    """Returns how often the run's held-out data was judged upon, and what that means."""
    if record.judgements is None:
        return None
    told = words("judged_upon_once") if record.judgements == 1 else words("judged_upon", n=record.judgements)
    return f"{told} {words('worn', n=wear.WORN_FROM)}" if wear.is_worn(record.judgements) else told
