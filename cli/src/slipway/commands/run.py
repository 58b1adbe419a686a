"""`slipway run`"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import typer

from slipway.options import HERE, Sets, StartTimeout, Workdir, start_within


def run(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="YAML file of a TrainingRun.")],
    sets: Sets = None,
    workdir: Workdir = HERE,
    serve: Annotated[bool, typer.Option("--serve/--no-serve", help="Serve the model once it passed its gates.")] = True,
    attach: Annotated[bool, typer.Option("--attach", help="Stay in front of the server; Ctrl-C stops it.")] = False,
    start_timeout: StartTimeout = None,
    output: Annotated[
        Literal["json"] | None, typer.Option("-o", "--output", help="Print the final status as JSON.")
    ] = None,
) -> None:
    """Train, judge and serve a model on this machine.

    Returns once the server answers, which then runs in the background until `slipway stop`. The same command goes on
    where it was cut off. It does not wait for a server that ends three times in a row, or that takes longer than
    --start-timeout. Exit codes: 0 serving or completed, 3 rejected or held, 2 wrong input, 1 failed or not
    answering, 130 interrupted.
    """
    within = start_within(start_timeout)
    _require_needs(file, sets or (), workdir)
    from slipway.local.runs.session import run_file

    code = run_file(
        file,
        overrides=sets or (),
        workdir=workdir,
        serve=serve,
        attach=attach,
        as_json=output == "json",
        start_within=within,
    )
    raise typer.Exit(code)


def _require_needs(file: Path, sets: Sequence[str], workdir: Path) -> None:
    """Refuses a run that lacks what its steps need, before anything starts: files, of which one that was prepared has
    its own copies, a package, or a key."""
    from slipway import named_files
    from slipway.exit_codes import BadInput
    from slipway.local import lacking
    from slipway.local.runs import sources
    from slipway.local.state import State
    from slipway_core.documents import loading

    run = loading.load_run(named_files.read(file), str(file), overrides=sets)
    state = State.below(workdir)
    if not state.run(run.name).exists():
        sources.require(run, file, state)
    if lacks := lacking.of_what_is_left(run, state):
        raise BadInput("\n".join(f"{file}: {sentence}" for sentence in lacks))
