"""`slipway ls`"""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from slipway.options import HERE, Context, Format, Local, Namespace, Workdir

if TYPE_CHECKING:
    from rich.table import Table

    from slipway.target import OrphanedFolder


def ls(
    orphaned: Annotated[
        bool, typer.Option("--orphaned", help="The folders of runs that are gone, and when each of them goes.")
    ] = False,
    workdir: Workdir = HERE,
    output: Annotated[Format | None, typer.Option("-o", "--output", help="Print it for a script.")] = None,
    everywhere: Annotated[bool, typer.Option("-A", "--all-namespaces", help="All namespaces of the cluster.")] = False,
    local: Local = None,
    context: Context = None,
    namespace: Namespace = None,
) -> None:
    """List runs and endpoints, or with --orphaned the folders of a cluster whose runs are gone."""
    from slipway.choose_target import Wanted, choose
    from slipway.exit_codes import BadInput
    from slipway.screen.printing import console, document

    if not orphaned:
        from slipway.commands.status import status

        status(None, workdir, output, everywhere, local, context, namespace)
        return
    target = choose(Wanted(workdir, False if everywhere and local is None else local, context, namespace))
    if everywhere:
        if namespace is not None:
            raise BadInput("-A: lists all namespaces; leave out -n")
        target = target.everywhere()
    found = target.orphaned()
    if output is not None:
        document([_document(folder) for folder in found], output)
        return
    screen = console()
    if not found:
        screen.print(f"{target.title} holds no folder of a run that is gone")
        return
    screen.print(_table(found, datetime.now(UTC), spaces=everywhere))


def _document(folder: OrphanedFolder) -> dict[str, object]:
    from slipway_core.resources.conditions import timestamp

    goes = timestamp(folder.goes) if folder.goes is not None else None
    return {name: value for name, value in {**asdict(folder), "goes": goes}.items() if value not in (None, "")}


def _table(folders: list[OrphanedFolder], now: datetime, *, spaces: bool) -> Table:
    from rich.table import Table

    table = Table("run", "uid", "folder", "goes", "kept by", box=None, pad_edge=False)
    table.columns[0].no_wrap = True
    for folder in folders:
        name = f"{folder.namespace}/{folder.run}" if spaces else folder.run
        place = f"pvc://{folder.place}" if folder.place else ""
        table.add_row(name, folder.uid, place, when(folder, now), folder.kept_by or "")
    return table


def when(folder: OrphanedFolder, now: datetime) -> str:
    """Says when a folder goes, and what of it."""
    from slipway_core.resources.api import in_words

    if folder.now:
        return "now"
    if folder.since is None:
        return "not marked yet"
    if folder.goes is None:
        return f"after the chart's retention.grace, from {folder.since} on"
    left = (folder.goes - now).total_seconds()
    moment = f"in {in_words(left)}" if left > 0 else "when it is its turn"
    if folder.kept_by is None:
        return moment
    return f"{moment}, but for the model" if left > 0 else "the model stays"
