"""The memory of stages at the terminal."""

from __future__ import annotations

from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from slipway.screen.preview import sentences
from slipway_core.protocol.preview import MemoryView, PlanMemory


def show(found: PlanMemory, screen: Console) -> None:
    """Prints the memory of the stages of a plan."""
    screen.print(Text(found.run, "bold"), Text(f"· {found.device}"))
    for stage in found.stages:
        screen.print()
        weights = f"{stage.parameters:,} weights, {stage.trained:,} of them trained"
        screen.print(Text.assemble((stage.name, "bold"), f": {weights}"))
        for part in shown(stage.memory):
            screen.print(part)
        for field, why in stage.memory.reasons.items():
            screen.print(Padding(Text(f"{field}: {why}", "dim"), (0, 0, 0, 2), expand=False))
    if not found.stages:
        screen.print("no stage trains: what there is to fit is the model itself, while it is judged and served")
        return
    refused = [stage.memory.refused for stage in found.stages if stage.memory.refused]
    screen.print()
    for line in refused:
        screen.print(Text.assemble(("refused ", "bold red"), line))
    screen.print(Text("This would not run as it is." if refused else "This fits, as far as is known.", "bold"))


def shown(view: MemoryView) -> list[RenderableType]:
    """Returns what was chosen, and the table."""
    return [
        Padding(Text(sentences.memory(view)), (0, 0, 0, 2), expand=False),
        Padding(_table(view), (0, 0, 0, 4), expand=False),
    ]


def _table(view: MemoryView) -> Table:
    head, *rows = sentences.memory_table(view)
    table = Table(show_header=len(head) > 2, box=None, padding=(0, 2, 0, 0), header_style="dim")
    for place, name in enumerate(head):
        table.add_column(name, justify="right" if place else "left")
    for row in rows:
        table.add_row(*row, style="bold" if row is rows[-1] else None)
    return table
