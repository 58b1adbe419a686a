"""A preview at the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from slipway.screen.preview import memory_terminal, sentences
from slipway.screen.preview.names import Names
from slipway.screen.preview.printable import printable
from slipway_core.protocol.preview import Layer, Lengths, Piece, Preview, ShownRow, StageView

_STYLES: dict[Layer, str] = {
    "Read": "dim",
    "Learned": "bold green",
    "Special": "magenta dim",
    "SpecialLearned": "bold magenta",
}
_BAR = 32
_LEARNED = ("SpecialLearned", "Learned")


def show(preview: Preview, screen: Console) -> None:
    """Prints a preview."""
    preview = printable(preview)
    names = Names.of(preview)
    screen.print(Text(preview.run, "bold"), Text(sentences.about(preview)))
    screen.print(Text(sentences.looked_at(preview), "dim"))
    for stage in preview.stages:
        screen.print()
        screen.print(_stage(stage, names, screen))
    held = [names.shorten(line) for line in sentences.held_out(preview.held_out)]
    if held:
        screen.print()
        screen.print(Text("held out", "bold"))
        screen.print(_lines(held))
    if preview.endpoint is not None:
        screen.print()
        screen.print(Text(f"endpoint {preview.endpoint.name}", "bold"))
        screen.print(_lines(sentences.endpoint(preview.endpoint)))
    screen.print()
    for line in preview.warnings:
        screen.print(Text.assemble(("warning ", "yellow"), names.shorten(line)))
    for line in preview.problems:
        screen.print(Text.assemble(("refused ", "bold red"), names.shorten(line)))
    screen.print(Text(f"{sentences.end(preview)} ({preview.seconds:.1f} s)", "bold"))


def _stage(stage: StageView, names: Names, screen: Console) -> RenderableType:
    parts: list[RenderableType] = [Text(sentences.stage(stage), "bold"), _files(stage, names)]
    parts.append(_lines(names.shorten(line) for line in sentences.tokens(stage)))
    if stage.cost is not None:
        parts.append(_lines(names.shorten(line) for line in sentences.cost(stage.cost)))
        if stage.cost.memory is not None:
            parts += memory_terminal.shown(stage.cost.memory)
    if stage.lengths is not None:
        parts.append(_lines([sentences.lengths(stage.lengths, stage.max_length)]))
        parts.append(Padding(_histogram(stage.lengths, stage.max_length), (0, 0, 0, 4), expand=False))
    for row in stage.shown:
        parts += ["", Padding(_row(row, names, coloured=screen.color_system is not None), (0, 0, 0, 2), expand=False)]
    return Group(*parts)


def _lines(lines: Iterable[str]) -> RenderableType:
    return Padding(Group(*(Text(line) for line in lines)), (0, 0, 0, 2), expand=False)


def _files(stage: StageView, names: Names) -> RenderableType:
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for number in range(5):
        table.add_column(justify="right" if number in (2, 3) else "left", overflow="fold")
    for view in stage.files:
        table.add_row(*(Text(cell) for cell in sentences.file(view, names.shorten(view.name))))
    return Padding(table, (0, 0, 0, 2), expand=False)


def _histogram(lengths: Lengths, max_length: int) -> RenderableType:
    table = Table(show_header=False, box=None, padding=(0, 1, 0, 0))
    table.add_column(justify="right")
    table.add_column()
    most = max(*lengths.counts, 1.0)
    filled = [place for place, count in enumerate(lengths.counts) if count]
    for place in range(filled[0], filled[-1] + 1):
        low, count = lengths.edges[place], lengths.counts[place]
        bar = "█" * round(_BAR * count / most) or ("▏" if count else "")
        table.add_row(
            Text(sentences.bin_of(lengths, place), "dim"),
            Text.assemble((bar, "red" if low >= max_length else "cyan"), (f" {count:,.0f}" if count else "", "dim")),
        )
    return table


def _row(row: ShownRow, names: Names, *, coloured: bool) -> RenderableType:
    head = Text(f"{names.shorten(row.place)} ({row.form})", "underline")
    if not coloured:
        head.append("; ⟦learned⟧")
    texts = [Padding(_text(pieces, coloured=coloured), (0, 0, 0, 2), expand=False) for pieces in row.texts]
    return Group(head, *texts, *([Text("…", "dim")] if row.cut else []))


def _text(pieces: Iterable[Piece], *, coloured: bool) -> Text:
    text = Text()
    for part, style in _parts(pieces, coloured=coloured):
        text.append(part, style)
    text.expand_tabs(8)  # Rich measures a tab as one cell, and would break the line where there is room.
    return text


def _parts(pieces: Iterable[Piece], *, coloured: bool) -> Iterator[tuple[str, str]]:
    """Yields pieces with their style; where there is no colour, what is learned stands in brackets."""
    for learned, group in groupby(pieces, key=lambda piece: piece.layer in _LEARNED):
        parts = [(piece.text, _STYLES[piece.layer]) for piece in group]
        yield from [("⟦", ""), *parts, ("⟧", "")] if learned and not coloured else parts
