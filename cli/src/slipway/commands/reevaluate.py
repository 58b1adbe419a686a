"""`slipway reevaluate`"""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from slipway.options import HERE, Workdir


def reevaluate(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="The run; the newest one when left out.")] = None,
    workdir: Workdir = HERE,
    output: Annotated[
        Literal["json"] | None, typer.Option("-o", "--output", help="Print the final status as JSON.")
    ] = None,
) -> None:
    """Judge a held run again, and take it as far as it then goes."""
    from slipway.local.session import reevaluate as judge_again

    raise typer.Exit(judge_again(name, workdir=workdir, as_json=output == "json"))
