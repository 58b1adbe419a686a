"""`slipway plot`"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from slipway.options import HERE, Context, Local, Namespace, Workdir

SUFFIXES = (".png", ".svg", ".pdf")


def plot(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="The run; the newest one when left out.")] = None,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="A .png, .svg or .pdf.")] = Path(
        "loss.png"
    ),
    workdir: Workdir = HERE,
    local: Local = None,
    context: Context = None,
    namespace: Namespace = None,
) -> None:
    """Draw the losses, learning rate and throughput."""
    from slipway.choose_target import Wanted, choose
    from slipway.exit_codes import BadInput

    if output.suffix.lower() not in SUFFIXES:
        raise BadInput(f"--output {output}: ends in {output.suffix or 'nothing'}; use one of {', '.join(SUFFIXES)}")
    target = choose(Wanted(workdir, local, context, namespace), name)
    run = target.run(name)
    stages = target.curves(run)
    if not run.spec.stages:
        raise BadInput(f"run {run.name} has no stages: nothing was trained, so there are no curves")
    if not stages:
        raise BadInput(
            f"run {run.name} has logged no training step yet; `{target.command('status', run.name)}` says how far it is"
        )
    from slipway.screen import plotting

    phase = run.status.phase.value if run.status else ""
    output.parent.mkdir(parents=True, exist_ok=True)
    plotting.draw(f"{run.name}: {phase}", stages, output)
    print(f"{output}: {', '.join(f'{stage.name} ({stage.last_step} steps)' for stage in stages)}")
