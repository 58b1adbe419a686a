"""`slipway watch`"""

from __future__ import annotations

from typing import Annotated

import typer

from slipway.options import HERE, Context, Local, Namespace, StartTimeout, Workdir, start_within


def watch(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="The run; the newest one when left out.")] = None,
    workdir: Workdir = HERE,
    local: Local = None,
    context: Context = None,
    namespace: Namespace = None,
    start_timeout: StartTimeout = None,
) -> None:
    """Look on while a run is at work. Ctrl-C leaves it alone. Ends with the run's exit code.

    A model that passed and does not answer is not waited for when the server of its live version ended three times in a
    row, or when that takes longer than --start-timeout: it ends with 1, and says why.
    """
    within = start_within(start_timeout)
    from slipway.choose_target import Wanted, choose
    from slipway.screen.watching import attend

    raise typer.Exit(attend(choose(Wanted(workdir, local, context, namespace), name), name, within))
