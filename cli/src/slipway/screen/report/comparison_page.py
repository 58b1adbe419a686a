"""Two runs side by side as a page that needs nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from html import escape

from slipway.records.comparison import Compared, ComparedPart, Comparison
from slipway.records.gates import GateRow, kind
from slipway.records.parts import PartFigure
from slipway.records.settings import Pair
from slipway.screen.pages.frame import framed, read
from slipway.screen.report import charts, parts, sentences
from slipway.screen.report.page import HERE, footer
from slipway.screen.report.parts import paragraph, section, table, text
from slipway.screen.report.sentences import number
from slipway.screen.report.words import Words


def page(found: Comparison, words: Words, now: datetime) -> str:
    """Returns the page as HTML."""
    a, b = found.names
    title = words("compared", a=a, b=b)
    heads = "".join(
        f'<p class="verdict {kind(one)}"><b>{text(one.name)}</b>: {text(sentences.verdict(one, words))}</p>\n'
        for one in found.records
    )
    troubles = [f"{one.name}: {trouble}" for one in found.records for trouble in one.troubles]
    body = [
        f'<a class="skip" href="#gates">{escape(words("skip"))}</a>\n',
        f"<header><h1>{text(title)}</h1>\n{heads}</header>\n",
        f"<main>\n{section('gates', words('gates'), _metrics(found, words))}",
        section("slices", words("slices"), _parts(found, words)),
        section("answers", words("answers"), _answers(found, words)),
        section("curves", words("curves"), _curves(found, words)),
        section("differences", words("differences"), _differences(found, words)),
        section("troubles", words("troubles"), parts.listed(troubles)),
        f"</main>\n{footer(words, now)}",
    ]
    return framed(title, "".join(body), style=read(HERE, "report.css"), language=words.html_language)


def data_note(found: Comparison, words: Words) -> str:
    """Returns whether figures of the two can be held against each other."""
    return words({True: "same_data", False: "other_data", None: "unknown_data"}[found.same_data])


def _metrics(found: Comparison, words: Words) -> str:
    a, b = found.names
    head = [words("metric"), a, "", b, "", words("difference")]
    rows = [
        [
            text(one.name),
            _figure(one.a, one.a_value, words),
            _drawn(one.a, one.a_value, words),
            _figure(one.b, one.b_value, words),
            _drawn(one.b, one.b_value, words),
            _more(one),
        ]
        for one in found.metrics
    ]
    if not rows:
        return paragraph(words("no_gates"))
    return table(head, rows, words("gates"), "gates compared") + paragraph(data_note(found, words))


def _parts(found: Comparison, words: Words) -> str:
    if not found.parts:
        return ""
    head = [words("part"), words("metric"), *found.names, words("difference")]
    rows = [
        [text(one.name), text(one.metric), *(text(part(side, words)) for side in (one.a, one.b)), _more(one)]
        for one in found.parts
    ]
    return table(head, rows, words("slices"), "slices")


def part(one: PartFigure, words: Words) -> str:
    """Returns the figure of a source or a slice, with its bounds where it has some."""
    return "–" if one.value is None else sentences.bounded(one.value, one.lower, one.upper, words)


def _figure(row: GateRow | None, value: float | None, words: Words) -> str:
    if row is None:
        return number(value)
    told = sentences.beside(row, value, words)
    verdict = words.verdict(row.verdict.value)
    return f'{text(told)}<small>{text(row.threshold)}: <b class="{row.verdict.value}">{escape(verdict)}</b></small>'


def _drawn(row: GateRow | None, value: float | None, words: Words) -> str:
    if row is None or row.regression or value is None:
        return ""
    return charts.interval(row, sentences.gate(row, words))


def _more(one: Compared | ComparedPart) -> str:
    return "–" if one.difference is None else f"{one.difference:+.4g}"


def _answers(found: Comparison, words: Words) -> str:
    a, b = found.names
    if not found.common:
        return paragraph(words("no_common"))
    title = words("changed_between", n=found.common)
    shown = parts.answers(title, found.changed, words, "like_other", b, a)
    return shown or paragraph(words("none_changed", n=found.common))


def _curves(found: Comparison, words: Words) -> str:
    drawn = parts.curves([(one.name, one.curves) for one in found.records if one.curves], words)
    return drawn or paragraph(words("no_curves"))


def _differences(found: Comparison, words: Words) -> str:
    if found.b.record is None:
        return ""
    pairs = {**found.settings, **found.data}
    return _pairs(pairs, found, words) if pairs else paragraph(words("no_differences"))


def _pairs(pairs: Mapping[str, Pair], found: Comparison, words: Words) -> str:
    absent = f'<span class="soft">{escape(words("absent"))}</span>'
    rows = [[text(name), *(absent if one is None else text(one) for one in pair)] for name, pair in pairs.items()]
    return table([words("setting"), *found.names], rows, words("differences"), "differences")
