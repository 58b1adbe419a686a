"""Two runs side by side at the terminal."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from slipway.records.comparison import Comparison
from slipway.records.gates import GateRow
from slipway.screen import view
from slipway.screen.report import sentences
from slipway.screen.report.comparison_page import data_note, part
from slipway.screen.report.terminal import line, show_answers, tabled
from slipway.screen.report.words import Words
from slipway.screen.visible import visible


def show(found: Comparison, words: Words, screen: Console) -> None:
    """Prints the comparison."""
    a, b = map(visible, found.names)
    for one in found.records:
        line(screen, f"{one.name}: {sentences.verdict(one, words)}")
    if found.metrics:
        screen.print()
        table = tabled(words("metric"), a, "", b, "", words("difference"))
        for one in found.metrics:
            more = "–" if one.difference is None else f"{one.difference:+.4g}"
            mine, other = _side(one.a, one.a_value, words), _side(one.b, one.b_value, words)
            table.add_row(Text(visible(one.name)), *mine, *other, Text(more))
        screen.print(table)
        line(screen, data_note(found, words), "" if found.same_data else "yellow")
    if found.parts:
        screen.print()
        line(screen, words("slices"), "bold")
        table = tabled(words("part"), words("metric"), a, b, words("difference"))
        for one in found.parts:
            more = "–" if one.difference is None else f"{one.difference:+.4g}"
            table.add_row(
                *(Text(visible(cell)) for cell in (one.name, one.metric)),
                *(Text(part(side, words)) for side in (one.a, one.b)),
                Text(more),
            )
        screen.print(table)
    if found.common:
        show_answers(screen, words("changed_between", n=found.common), list(found.changed)[:3], words, b)
    pairs = {**found.settings, **found.data}
    if found.b.record is not None:
        screen.print()
        line(screen, words("differences") if pairs else words("no_differences"), "bold" if pairs else "")
    if pairs:
        table = tabled(words("setting"), a, b)
        for name, pair in pairs.items():
            table.add_row(*(Text(visible(words("absent") if one is None else one)) for one in (name, *pair)))
        screen.print(table)
    for one in found.records:
        for trouble in one.troubles:
            line(screen, f"! {one.name}: {trouble}", "yellow")


def _side(row: GateRow | None, value: float | None, words: Words) -> tuple[Text, Text]:
    if row is None:
        return Text(sentences.number(value)), Text("")
    verdict = Text(words.verdict(row.verdict.value), view.VERDICT_STYLES[row.verdict])
    return Text(sentences.beside(row, value, words)), verdict
