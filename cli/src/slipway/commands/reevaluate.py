"""`slipway reevaluate`"""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from slipway.options import HERE, Context, Local, Namespace, Workdir


def reevaluate(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="The run; the newest one when left out.")] = None,
    workdir: Workdir = HERE,
    output: Annotated[
        Literal["json"] | None, typer.Option("-o", "--output", help="Print the final status as JSON.")
    ] = None,
    local: Local = None,
    context: Context = None,
    namespace: Namespace = None,
) -> None:
    """Judge a held run again, and take it as far as it then goes."""
    from slipway.choose_target import Wanted, choose

    target = choose(Wanted(workdir, local, context, namespace), name)
    raise typer.Exit(target.reevaluate(name, as_json=output == "json"))
