"""`slipway approve`"""

from __future__ import annotations

from typing import Annotated

import typer

from slipway.options import HERE, Context, Local, Namespace, Workdir


def approve(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A run whose model waits, or endpoint/NAME.")],
    digest: Annotated[
        str | None,
        typer.Option(metavar="sha256:…", help="The model that you approve, whole; nothing is approved without it."),
    ] = None,
    workdir: Workdir = HERE,
    local: Local = None,
    context: Context = None,
    namespace: Namespace = None,
) -> None:
    """Approve a model that waits for it: say what waits and how it was judged, and with --digest let it go live.

    It takes the verb `approve` on modelendpoints, and is recorded in your name.
    """
    from slipway.choose_target import Wanted, choose

    target = choose(Wanted(workdir, local, context, namespace), name)
    for line in target.approve(name, digest):
        print(line, flush=True)
