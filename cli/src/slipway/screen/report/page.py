"""The report of one run as a page that needs nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from html import escape
from importlib.metadata import version
from typing import Any

from slipway.diagnosis import step_warnings
from slipway.records import answers, gates
from slipway.records.gates import GateRow
from slipway.records.lineage_graph import Lineage
from slipway.records.parts import PartFigure, of_parts
from slipway.records.record import BASE, LIVE, Record
from slipway.records.settings import flat
from slipway.screen.pages.frame import framed, read
from slipway.screen.report import charts, parts, sentences
from slipway.screen.report.parts import paragraph, section, table, text
from slipway.screen.report.sentences import number
from slipway.screen.report.words import Words
from slipway.screen.visible import visible
from slipway_core.resources.conditions import timestamp

HERE = "slipway.screen.report"


def page(record: Record, lineage: Lineage, words: Words, now: datetime) -> str:
    """Returns the page as HTML."""
    title = f"{record.name}: {words('report')}"
    body = [
        f'<a class="skip" href="#gates">{escape(words("skip"))}</a>\n<header><h1>{text(record.name)}</h1>\n',
        f'<p class="verdict {gates.kind(record)}"><b>{escape(words(gates.kind(record)))}</b>: ',
        f"{text(sentences.why(record, words))}</p>\n",
        f'<div class="soft">{text(" · ".join(sentences.facts(record, words)))}</div></header>\n<main>\n',
        section("gates", words("gates"), _gates(record, words)),
        section("warnings", words("warnings"), parts.listed(step_warnings.of_run(record.status))),
        section("figures", words("figures"), _figures(record, words)),
        section("slices", words("slices"), _slices(record, words)),
        section("answers", words("answers"), _answers(record, words)),
        section("curves", words("curves"), _curves(record, words)),
        section("data", words("data"), parts.data(record, words)),
        section("settings", words("settings"), _settings(record, words)),
        section("lineage", words("lineage"), parts.lineage(lineage, words)),
        section("troubles", words("troubles"), parts.listed(list(record.troubles))),
        f"</main>\n{footer(words, now)}",
    ]
    return framed(title, "".join(body), style=read(HERE, "report.css"), language=words.html_language)


def footer(words: Words, now: datetime) -> str:
    made = words("made", when=timestamp(now), version=version("slipway"))
    return f"<footer>{escape(made)}</footer>\n"


def _gates(record: Record, words: Words) -> str:
    rows = gates.rows(record)
    if not rows:
        return paragraph(words("no_gates") if not record.gates else _asked(record, words))
    others = [name for name in ("live", "base") if any(getattr(row, name) is not None for row in rows)]
    head = [words(name) for name in ("gate", "drawn", "measured", "asked", *others, "verdict")]
    interval = sentences.intervals(rows, words)
    legend = paragraph(words("legend", interval=interval)) if interval is not None else ""
    below = parts.listed(sentences.judge(record, words))
    if told := sentences.worn(record, words):
        below += paragraph(told)
    return table(head, [_gate(row, others, words) for row in rows], words("gates"), "gates") + legend + below


def _asked(record: Record, words: Words) -> str:
    """Returns what will be asked, of a run that was not judged yet."""
    from slipway_core.lifecycle.verdict import threshold
    from slipway_core.resources.gate_metrics import titled

    over = record.run.spec.evaluation.win_rate_over
    told = words("joint").join(
        f"{titled(gate.metric, gate.source, gate.slice, gate.task)} {threshold(gate, over)}" for gate in record.gates
    )
    return f"{words('asked')}: {told}"


def _gate(row: GateRow, others: Sequence[str], words: Words) -> list[str]:
    drawn = charts.interval(row, sentences.gate(row, words))
    reason = f"<small>{text(row.reason)}</small>" if row.reason else ""
    rests = f"<small>{escape(sentences.rests_on(row, row.clusters, words))}</small>" if row.clusters is not None else ""
    on = f"<small>{text(words('judged_on', what=row.data))}</small>" if row.data is not None else ""
    return [
        f"{text(row.name)}{on}",
        drawn or f'<span class="soft">{escape(words("not_drawn"))}</span>',
        f"{text(sentences.figure(row, words))}{rests}",
        text(row.threshold),
        *(number(getattr(row, name)) for name in others),
        f'<b class="{row.verdict.value}">{escape(words.verdict(row.verdict.value))}</b>{reason}',
    ]


def _figures(record: Record, words: Words) -> str:
    live, base = record.beside(LIVE), record.beside(BASE)
    names = list(dict.fromkeys([*record.metrics, *live, *base]))
    if not names:
        return ""
    columns = [("this", record.metrics), *((key, one) for key, one in (("live", live), ("base", base)) if one)]
    rows = [[text(name), *(number(one.get(name)) for _, one in columns)] for name in names]
    missing = _mapping(record.report.get("missing"))
    empty = [""] * (len(columns) - 1)
    rows += [[text(name), text(why), *empty] for name, why in missing.items() if name not in names]
    return table([words("metric"), *(words(key) for key, _ in columns)], rows, words("figures"), "figures")


def _slices(record: Record, words: Words) -> str:
    found = of_parts(record)
    if not found:
        return ""
    others = [name for name in ("live", "base") if any(getattr(one, name) is not None for one in found)]
    rows = [
        [
            text(one.name),
            text(one.metric),
            text(_bounded(one, words)),
            *(number(getattr(one, name)) for name in others),
            _count(one.clusters),
        ]
        for one in found
    ]
    head = [words(name) for name in ("part", "metric", "measured", *others, "rows")]
    return table(head, rows, words("slices"), "slices")


def _bounded(one: PartFigure, words: Words) -> str:
    return "–" if one.value is None else sentences.bounded(one.value, one.lower, one.upper, words)


def _count(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


def _answers(record: Record, words: Words) -> str:
    if not record.samples:
        return paragraph(words("no_answers"))
    worst, changed = answers.worst(record), answers.changed(record)
    live, mine = words("live"), words("this")
    told = parts.answers(words("worst"), worst, words, "like_wanted", live, mine) or paragraph(words("all_right"))
    if not record.live_samples:
        return told + paragraph(words("no_live_answers"))
    none = paragraph(words("none_changed", n=len(record.live_samples)))
    return told + (parts.answers(words("changed"), changed, words, "like_live", live, mine) or none)


def _curves(record: Record, words: Words) -> str:
    return parts.curves([(record.name, record.curves)], words) or paragraph(words("no_curves"))


def _settings(record: Record, words: Words) -> str:
    head = [words("setting"), words("value")]

    def rows(document: Mapping[str, Any]) -> list[list[str]]:
        return [[text(name), text(value)] for name, value in flat(document).items()]

    folded = [parts.folded(words("model"), table(head, rows(_mapping(record.plan.get("model"))), words("model")))]
    stages = record.plan.get("stages")
    for stage in filter(None, map(_mapping, stages if isinstance(stages, list) else ())):
        name = visible(str(stage.get("name")))
        shown = {key: value for key, value in stage.items() if key != "name"}
        body = table(head, rows(shown), name)
        if decided := record.resolved.get(name):
            body += f"<h4>{escape(words('resolved'))}</h4>" + table(head, rows(decided), words("resolved"))
        folded.append(parts.folded(name, body))
    return "".join(folded) if record.plan else ""


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
