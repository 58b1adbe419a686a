"""Parts that the pages of one run and of two share. Whatever somebody else wrote is escaped here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from html import escape
from typing import Any

from slipway.records.answers import Shown
from slipway.records.lineage_graph import Lineage, Node
from slipway.records.record import Record
from slipway.screen.lineage import drawing
from slipway.screen.report import charts
from slipway.screen.report.charts import Series
from slipway.screen.report.words import Words
from slipway.screen.visible import visible
from slipway.training_metrics import Point, StageMetrics

LONGEST = 2000
"""Characters of a text that a page shows."""


def text(value: object) -> str:
    """Returns somebody's text for a page: signs for what steers, escaped, and kept to itself in its own direction."""
    return f"<bdi>{escape(visible(str(value)))}</bdi>"


def section(id_: str, title: str, *parts: str) -> str:
    body = "".join(parts)
    return f'<section aria-labelledby="{id_}"><h2 id="{id_}">{escape(title)}</h2>\n{body}</section>\n' if body else ""


def table(head: Sequence[str], rows: Iterable[Sequence[str]], label: str, kind: str = "") -> str:
    """Returns a table of cells that are HTML. It scrolls by itself where it is wider than the page.

    Args:
        kind: its class. A cell of "gates" knows its column's name, since on a narrow page each row is a block.
    """
    columns = "".join(f'<th scope="col">{escape(one)}</th>' for one in head)
    named_by = head[1:] if kind == "gates" else ()
    body = "".join(f"<tr>{_cells(row, named_by)}</tr>\n" for row in rows)
    named = escape(label)
    return (
        f'<div class="wide" role="region" aria-label="{named}" tabindex="0"><table class="{kind}">'
        f"<thead><tr>{columns}</tr></thead>\n<tbody>{body}</tbody></table></div>\n"
    )


def _cells(row: Sequence[str], named_by: Sequence[str]) -> str:
    first, *others = row
    of = [f' data-of="{escape(one)}"' for one in named_by] or [""] * len(others)
    cells = (f"<td{name}>{cell}</td>" for name, cell in zip(of, others, strict=True))
    return f'<th scope="row">{first}</th>' + "".join(cells)


def paragraph(words: str, kind: str = "soft") -> str:
    return f'<p class="{kind}">{escape(words)}</p>\n'


def listed(lines: Sequence[str]) -> str:
    return f"<ul>{''.join(f'<li>{text(line)}</li>' for line in lines)}</ul>\n" if lines else ""


def folded(title: str, body: str) -> str:
    return f"<details><summary>{escape(title)}</summary>\n{body}</details>\n"


def block(value: str, words: Words, *, cut: bool = False) -> str:
    """Returns a text that may be long, as it stands, its end left out and counted.

    Args:
        cut: it is the beginning of a longer one.
    """
    shown = visible(value[:LONGEST])
    left = len(value) - LONGEST
    more = words("cut", n=f"{left:,}") if left > 0 else words("cut_record") if cut else ""
    body = escape(shown) if shown.strip() else f'<span class="soft">{escape(words("empty"))}</span>'
    end = f'<p class="more">{escape(more)}</p>' if more else ""
    return f'<pre dir="auto">{body}</pre>{end}'


def answers(title: str, shown: Sequence[Shown], words: Words, how: str, other: str, mine: str) -> str:
    """Returns answers, each with what was wanted and what another model answered.

    Args:
        how: the phrase that says how like they are.
        other, mine: what the other model and this one are called.
    """
    if not shown:
        return ""
    return f"<h3>{escape(title)}</h3>\n" + "".join(_answer(one, words, how, other, mine) for one in shown)


def _answer(one: Shown, words: Words, how: str, other: str, mine: str) -> str:
    alike = (
        words("repeats") if how == "like_wanted" and one.wanted is None else words(how, percent=f"{one.likeness:.0%}")
    )
    columns = [(mine, one.answer, False)]
    if one.wanted is not None:
        columns.append((words("wanted"), one.wanted, False))
    if one.live is not None:
        columns.append((other, one.live, one.live_cut))
    told = "".join(f"<div><h4>{escape(name)}</h4>{block(value, words, cut=cut)}</div>" for name, value, cut in columns)
    part = f" · {escape(visible(one.slice))}" if one.slice else ""
    scored = " · ".join(f"{name} {score:.3g}" for name, score in one.scores.items())
    scores = f'<p class="soft">{text(scored)}</p>' if scored else ""
    prompt = block(one.prompt, words)
    return (
        f'<article><p class="soft">{one.number}{part} · {escape(alike)}</p><h4>{escape(words("prompt"))}</h4>{prompt}'
        f'<div class="beside">{told}</div>{scores}</article>\n'
    )


def curves(runs: Sequence[tuple[str, Sequence[StageMetrics]]], words: Words) -> str:
    """Draws loss and throughput of one run, or of two in one plot each."""
    alone = len(runs) == 1
    losses: list[Series] = []
    speeds: list[Series] = []
    for number, (name, stages) in enumerate(runs):
        begin = "" if alone else f"{name}: "
        training, validation = _laid(stages, "loss"), _laid(stages, "validation_loss")
        losses.append(Series(begin + words("training"), training, number if not alone else 0, smooth=True))
        if validation:
            losses.append(Series(begin + words("validation"), validation, 1 if alone else number + 2, dots=True))
        speeds.append(Series(name, _laid(stages, "tokens_per_second"), number, smooth=not alone))
    parts = _parts(runs[0][1]) if alone else []
    drawn = [
        _chart(words("loss"), losses, words, parts),
        _chart(words("throughput"), [one for one in speeds if one.points], words, parts, from_zero=True),
    ]
    return "".join(f"<figure>{one}</figure>\n" for one in drawn if one)


def _chart(
    title: str, series: Sequence[Series], words: Words, parts: Sequence[tuple[str, int]], *, from_zero: bool = False
) -> str:
    told = [
        words("series_of", name=one.name, first=f"{one.points[0].value:.4g}", last=f"{one.points[-1].value:.4g}")
        for one in series
        if one.points
    ]
    label = words("chart_of", what=title, series=", ".join(told))
    drawn = charts.curves(title, series, visible(label), parts=parts, steps=words("steps"), from_zero=from_zero)
    named = charts.legend([replace(one, name=visible(one.name)) for one in series])
    return drawn and f"{drawn}{f'<figcaption>{named}</figcaption>' if named else ''}"


def _laid(stages: Sequence[StageMetrics], curve: str) -> list[Point]:
    """Returns a curve of all stages, one after the other."""
    points: list[Point] = []
    start = 0
    for stage in stages:
        points += [Point(start + point.step, point.value) for point in getattr(stage, curve)]
        start += stage.last_step
    return points


def _parts(stages: Sequence[StageMetrics]) -> list[tuple[str, int]]:
    found, start = list[tuple[str, int]](), 0
    for stage in stages:
        found.append((visible(stage.name), start))
        start += stage.last_step
    return found


def data(record: Record, words: Words) -> str:
    """Returns what was learned from and judged on, with the digest of each file."""
    rows: list[list[str]] = []
    for stage, splits in _mapping(record.prepared.get("stages")).items():
        for split, found in _mapping(splits).items():
            if isinstance(found, Mapping):
                rows += _data_rows(f"{stage}/{split}", found, "rows")
    rows += _data_rows(words("held_out"), _mapping(record.prepared.get("evaluation")), "documents")
    rows += _data_rows(words("prompt"), _mapping(record.prepared.get("prompts")), "prompts")
    if not rows:
        return paragraph(words("no_data"))
    head = [words("data"), words("rows"), words("tokens"), words("digest")]
    return table(head, rows, words("data"), "data")


def _data_rows(place: str, found: Mapping[str, Any], counted: str) -> list[list[str]]:
    if not found:
        return []
    rows = [
        [f"<b>{text(place)}</b>", _count(found.get(counted)), _count(found.get("tokens")), _code(found.get("digest"))]
    ]
    files = found.get("files")
    for file in files if isinstance(files, list) else ():
        if isinstance(file, Mapping):
            rows.append([text(file.get("name") or file.get("uri")), "", "", _code(file.get("sha256"))])
    return rows


def lineage(found: Lineage, words: Words) -> str:
    """Returns the lineage as a drawing, and as a list with every digest."""
    seen: set[str] = set()
    items = "".join(_item(found, root, "", seen) for root in found.roots)
    return f"<figure>{drawing.svg(found, words('lineage'))}</figure>\n" + folded(
        words("lineage_list"), f'<ul class="lineage">{items}</ul>\n'
    )


def _item(found: Lineage, node: Node, label: str, seen: set[str]) -> str:
    before = f'<span class="soft">{escape(label)}:</span> ' if label else ""
    told = f"{before}{text(node.title)} {_code(node.digest)}"
    if node.id in seen:
        return f"<li>{told} ↑</li>"
    seen.add(node.id)
    facts = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in node.facts.items())
    more = f'<div class="soft">{text(facts)}</div>' if facts else ""
    lost = f'<div class="lost">! {text(node.missing)}</div>' if node.missing else ""
    below = "".join(_item(found, found.node(edge.target), edge.label, seen) for edge in found.after(node.id))
    return f"<li>{told}{more}{lost}{f'<ul>{below}</ul>' if below else ''}</li>"


def _code(value: object) -> str:
    return f"<code>{escape(visible(str(value)))}</code>" if value else ""


def _count(value: object) -> str:
    return f"{value:,.0f}" if isinstance(value, int | float) and not isinstance(value, bool) else ""


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
