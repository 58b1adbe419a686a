"""The report of one run at the terminal: short, the page has all of it."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from slipway.diagnosis import step_warnings
from slipway.records import answers, gates
from slipway.records.answers import Shown
from slipway.records.record import Record
from slipway.records.settings import data_digests
from slipway.screen import view
from slipway.screen.report import sentences
from slipway.screen.report.sentences import number
from slipway.screen.report.words import Words
from slipway.screen.visible import visible
from slipway_core.rollout.wear import is_worn

_LONGEST = 160
"""Characters of an answer that are shown."""
_MOST = 3


def show(record: Record, words: Words, screen: Console) -> None:
    """Prints the report."""
    screen.print(Text(record.name, "bold"), Text(" · ".join(sentences.facts(record, words)), "dim"))
    line(screen, sentences.verdict(record, words))
    if rows := gates.rows(record):
        screen.print()
        table = tabled(*(words(name) for name in ("gate", "measured", "asked", "live", "base", "verdict")))
        for row in rows:
            verdict = Text(words.verdict(row.verdict.value), view.VERDICT_STYLES[row.verdict])
            cells = [visible(row.name), sentences.figure(row, words), visible(row.threshold)]
            table.add_row(*(Text(cell) for cell in (*cells, number(row.live), number(row.base))), verdict)
        screen.print(table)
        for told in gates.measured_on(record.evaluation.metrics if record.evaluation else ()):
            line(screen, words("judged_on", what=told), "dim")
    for told in sentences.reasons(record, words):
        line(screen, told, "yellow")
    for told in sentences.judge(record, words):
        line(screen, told, "dim")
    if told := sentences.worn(record, words):
        line(screen, told, "yellow" if is_worn(record.judgements or 0) else "dim")
    show_answers(screen, words("worst"), answers.worst(record, _MOST), words)
    show_answers(screen, words("changed"), answers.changed(record, _MOST), words)
    if record.curves:
        screen.print()
    for stage in record.curves:
        ends = [f"{words('steps').partition(',')[0]} {stage.last_step:,}"]
        curves = ((words("training"), stage.loss), (words("validation"), stage.validation_loss))
        ends += [f"{name} {number(curve[-1].value)}" for name, curve in curves if curve]
        line(screen, f"{stage.name}: {', '.join(ends)}")
    for place, digest in data_digests(record).items():
        line(screen, f"{place}  {digest}")
    for warning in step_warnings.of_run(record.status):
        line(screen, f"{words('warning')}: {warning}", "yellow")
    for trouble in record.troubles:
        line(screen, f"! {trouble}", "yellow")


def tabled(*heads: str) -> Table:
    """Returns a table in which nothing is cut off: what is too wide goes on in the next line."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for head in heads:
        table.add_column(head, overflow="fold")
    return table


def show_answers(screen: Console, title: str, shown: list[Shown], words: Words, other: str | None = None) -> None:
    """Prints a few answers, each in a line a side."""
    if not shown:
        return
    screen.print()
    line(screen, title, "bold")
    for one in shown:
        line(screen, f"{one.number}  {_short(one.prompt)}", "dim")
        sides = [(words("answer"), one.answer), (words("wanted"), one.wanted), (other or words("live"), one.live)]
        for name, value in sides:
            if value is not None:
                line(screen, f"   {name}: {_short(value) or words('empty')}")


def line(screen: Console, value: str, style: str = "") -> None:
    """Prints a text as it is, whatever it holds."""
    screen.print(Text(visible(value), style))


def _short(value: str) -> str:
    flat = " ".join(visible(value[: 4 * _LONGEST]).split())
    return flat if len(flat) <= _LONGEST and len(value) <= 4 * _LONGEST else f"{flat[:_LONGEST]}…"
