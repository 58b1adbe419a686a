"""`slipway logs`"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from slipway.options import HERE, Context, Local, Namespace, Workdir


def logs(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="A run or an endpoint; the newest run when left out.")
    ] = None,
    stage: Annotated[
        str | None,
        typer.Option(
            "--stage", metavar="STEP", help="prepare, a stage, export, evaluate or serve; all but serve when left out."
        ),
    ] = None,
    attempt: Annotated[int | None, typer.Option("--attempt", metavar="N", help="The newest when left out.")] = None,
    follow: Annotated[
        bool, typer.Option("-f", "--follow", help="Go on as the log grows, until the run rests.")
    ] = False,
    workdir: Workdir = HERE,
    local: Local = None,
    context: Context = None,
    namespace: Namespace = None,
) -> None:
    """Print the logs of a run's steps, or of an endpoint's server."""
    from slipway.choose_target import Wanted, choose
    from slipway.target import LogRequest

    target = choose(Wanted(workdir, local, context, namespace), name)
    target.logs(LogRequest(name, stage, attempt, follow), _write)


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
