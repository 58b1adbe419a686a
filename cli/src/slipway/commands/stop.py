"""`slipway stop`"""

from __future__ import annotations

from typing import Annotated

import typer

from slipway.options import HERE, Context, Local, Namespace, Workdir


def stop(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME]", help="An endpoint, or a run at work; every endpoint of this machine when left out."
        ),
    ] = None,
    workdir: Workdir = HERE,
    local: Local = None,
    context: Context = None,
    namespace: Namespace = None,
) -> None:
    """Stop serving, or have a run checkpoint and end. What was trained stays."""
    from slipway.choose_target import Wanted, choose

    for sentence in choose(Wanted(workdir, local, context, namespace), name).stop(name):
        print(sentence, flush=True)
