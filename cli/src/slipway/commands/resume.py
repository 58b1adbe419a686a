"""`slipway resume`"""

from __future__ import annotations

from typing import Annotated

import typer

from slipway.options import HERE, Context, Local, Namespace, Workdir


def resume(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A run, or an endpoint.")],
    workdir: Workdir = HERE,
    local: Local = None,
    context: Context = None,
    namespace: Namespace = None,
) -> None:
    """Take up what was stopped in a cluster, and give a failed run its retries back.

    On this machine `slipway run` with its file does that.
    """
    from slipway.choose_target import Wanted, choose

    for sentence in choose(Wanted(workdir, local, context, namespace), name).resume(name):
        print(sentence, flush=True)
