"""`slipway watch`"""

from __future__ import annotations

import time
from typing import Annotated

import typer

from slipway.options import HERE, Workdir

_SECONDS = 0.5


def watch(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="The run; the newest one when left out.")] = None,
    workdir: Workdir = HERE,
) -> None:
    """Look on while a run is at work. Ctrl-C leaves it alone. Ends with the run's exit code."""
    from slipway import exits
    from slipway.local import view
    from slipway.local.state import State
    from slipway.printing import console

    folder = State.below(workdir).existing_run(name)
    with view.choose(console()) as shown:
        while True:
            at_work = folder.holder() is not None
            status = folder.status()
            shown(status, ())
            if status.phase.finished or not at_work:
                break
            time.sleep(_SECONDS)
    if not status.phase.finished:
        where = f"run {folder.name} is {status.phase.value} and nobody is at work on it"
        raise exits.CliError(f"{where}; `slipway run` with its file goes on")
    print(f"run {folder.name} is {status.phase.value}")
    raise typer.Exit(exits.of_run(status, folder.workspace()))
