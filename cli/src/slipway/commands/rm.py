"""`slipway rm`"""

from __future__ import annotations

from typing import Annotated

import typer

from slipway.options import HERE, Context, Local, Namespace, Workdir


def rm(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Runs, or stopped endpoints as endpoint/NAME.")],
    workdir: Workdir = HERE,
    now: Annotated[
        bool,
        typer.Option("--now", help="Do not keep for a while what the runs leave in a cluster; of removed runs, too."),
    ] = False,
    local: Local = None,
    context: Context = None,
    namespace: Namespace = None,
) -> None:
    """Remove runs: their checkpoints, logs and models.

    A model that an endpoint serves, or could go back to, stays until that endpoint is removed too. In a cluster what a
    run leaves stays for a while: a run of the same name and plan goes on in it. With --now a folder that is left goes,
    by the name that `slipway ls --orphaned` shows.
    """
    from slipway.choose_target import Wanted, choose

    for name in names:
        for sentence in choose(Wanted(workdir, local, context, namespace), name).remove(name, now=now):
            print(sentence, flush=True)
