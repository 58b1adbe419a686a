"""A preview as one page that needs nothing else: no script, no font, no picture from anywhere."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from html import escape
from string import Template

from slipway.screen.pages.frame import framed, read
from slipway.screen.preview import sentences
from slipway.screen.preview.names import Names
from slipway.screen.preview.printable import printable
from slipway_core.protocol.preview import Layer, Lengths, Piece, Preview, ShownRow, StageView

_HERE = "slipway.screen.preview"
_CLASSES: dict[Layer, str] = {"Read": "r", "Learned": "l", "Special": "s", "SpecialLearned": "s l"}
_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP = 640, 150, 6, 22, 16


def page(preview: Preview) -> str:
    """Returns the page as HTML."""
    preview = printable(preview)
    names = Names.of(preview)
    body = Template(read(_HERE, "body.html")).substitute(
        title=escape(preview.run),
        about=escape(sentences.about(preview)),
        looked_at=escape(sentences.looked_at(preview)),
        end=escape(sentences.end(preview)),
        messages="".join(_messages(preview, names)),
        stages="".join(_stage(stage, names) for stage in preview.stages),
        held_out=_held_out(preview, names),
        endpoint=_endpoint(preview),
    )
    return framed(f"{preview.run}: preview", body, style=read(_HERE, "preview.css"))


def _messages(preview: Preview, names: Names) -> Iterator[str]:
    for kind, lines in (("refused", preview.problems), ("warning", preview.warnings)):
        yield from (f'<li class="{kind}"><b>{kind}</b> {escape(names.shorten(line))}</li>\n' for line in lines)


def _stage(stage: StageView, names: Names) -> str:
    lines = [*sentences.tokens(stage), *(sentences.cost(stage.cost) if stage.cost is not None else ())]
    parts = [f"<section><h2>{escape(sentences.stage(stage))}</h2>\n", _files(stage, names)]
    if stage.cost is not None and stage.cost.memory is not None:
        lines.append(sentences.memory(stage.cost.memory))
    parts.append(_list(map(names.shorten, lines)))
    if stage.cost is not None and stage.cost.memory is not None:
        parts.append(_table(sentences.memory_table(stage.cost.memory)))
    if stage.lengths is not None:
        caption = escape(sentences.lengths(stage.lengths, stage.max_length))
        parts.append(
            f"<figure>{_histogram(stage.lengths, stage.max_length)}<figcaption>{caption}</figcaption></figure>\n"
        )
    parts += [_row(row, names) for row in stage.shown]
    return "".join([*parts, "</section>\n"])


def _list(lines: Iterable[str]) -> str:
    return f"<ul>{''.join(f'<li>{escape(line)}</li>' for line in lines)}</ul>\n"


def _files(stage: StageView, names: Names) -> str:
    return _table([sentences.file(view, names.shorten(view.name)) for view in stage.files])


def _table(rows: Iterable[tuple[str, ...]]) -> str:
    return f"<table>{''.join(f'<tr>{_cells(row)}</tr>' for row in rows)}</table>\n"


def _cells(row: Iterable[str]) -> str:
    return "".join(f"<td>{escape(cell)}</td>" for cell in row)


def _held_out(preview: Preview, names: Names) -> str:
    lines = [names.shorten(line) for line in sentences.held_out(preview.held_out)]
    return f"<section><h2>held out</h2>{_list(lines)}</section>\n" if lines else ""


def _endpoint(preview: Preview) -> str:
    if preview.endpoint is None:
        return ""
    head = escape(f"endpoint {preview.endpoint.name}")
    return f"<section><h2>{head}</h2>{_list(sentences.endpoint(preview.endpoint))}</section>\n"


def _histogram(lengths: Lengths, max_length: int) -> str:
    """Draws rows by their tokens, with a line where maxLength is."""
    most, last = max(*lengths.counts, 1.0), lengths.edges[-1]
    wide, high = _WIDTH - 2 * _LEFT, _HEIGHT - _BOTTOM - _TOP

    def across(tokens: float) -> float:
        return _LEFT + wide * tokens / last

    bars = []
    for place, count in enumerate(lengths.counts):
        low, above = lengths.edges[place], lengths.edges[place + 1]
        tall = high * count / most
        left, right = across(low), across(above)
        bars.append(
            f'<rect class="{"over" if low >= max_length else "bar"}" x="{left + 1:.1f}" y="{_TOP + high - tall:.1f}" '
            f'width="{right - left - 2:.1f}" height="{tall:.1f}">'
            f"<title>{sentences.bin_of(lengths, place)} tokens: {count:,.0f} rows</title></rect>"
        )
    base = _TOP + high
    marks = [f'<line class="axis" x1="{_LEFT}" y1="{base}" x2="{_WIDTH - _LEFT}" y2="{base}"/>']
    marks += [
        f'<text x="{across(edge):.1f}" y="{_HEIGHT - 6}" text-anchor="{anchor}">{edge:,}</text>'
        for edge, anchor in ((0, "start"), (lengths.edges[len(lengths.edges) // 2], "middle"), (last, "end"))
    ]
    if max_length <= last:
        limit = across(max_length)
        anchor = "end" if limit > _WIDTH / 2 else "start"
        marks.append(
            f'<line class="limit" x1="{limit:.1f}" y1="2" x2="{limit:.1f}" y2="{base}"/>'
            f'<text class="limit" x="{limit + (-4 if anchor == "end" else 4):.1f}" y="11" text-anchor="{anchor}">'
            f"maxLength {max_length:,}</text>"
        )
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="rows by their tokens">'
        f"{''.join(bars)}{''.join(marks)}</svg>"
    )


def _row(row: ShownRow, names: Names) -> str:
    texts = "".join(f'<pre dir="auto">{"".join(map(_piece, pieces))}</pre>' for pieces in row.texts)
    more = '<p class="more">…</p>' if row.cut else ""
    return f"<h3>{escape(names.shorten(row.place))} <small>{escape(row.form)}</small></h3>{texts}{more}\n"


def _piece(piece: Piece) -> str:
    return f'<span class="{_CLASSES[piece.layer]}">{escape(piece.text)}</span>'
