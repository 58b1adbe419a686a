"""`slipway preview`"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from slipway.options import HERE, Device, Processes, Sets, Workdir

SUFFIXES = (".html", ".json")


def preview(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="YAML file of a TrainingRun; - is standard input.")],
    sets: Sets = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="Write a page (.html), or all of it (.json).")
    ] = None,
    device: Device = None,
    processes: Processes = None,
    tokens_per_second: Annotated[
        float | None,
        typer.Option("--tokens-per-second", metavar="N", min=0.001, help="A speed to tell the hours from."),
    ] = None,
    endpoint: Annotated[
        Path | None,
        typer.Option(
            "--endpoint", metavar="FILE", help="YAML of a ModelEndpoint: say whether the run answers its requiredGates."
        ),
    ] = None,
    rows: Annotated[int, typer.Option("--rows", metavar="N", min=0, max=100, help="Rows of each stage to show.")] = 3,
    workdir: Workdir = HERE,
) -> None:
    """Show what would be learned, token by token, and what it would cost.

    Reads the data and trains nothing. Exit code 2 when something of it would be refused, or its model by the endpoint.
    """
    from slipway.exit_codes import BAD_INPUT, DONE, BadInput
    from slipway.local import previewing
    from slipway.screen.pages import output as out
    from slipway.screen.preview import page, terminal
    from slipway.screen.printing import console

    if output is not None and output.suffix.lower() not in SUFFIXES:
        raise BadInput(f"--output {output}: ends in {output.suffix or 'nothing'}; use one of {', '.join(SUFFIXES)}")
    if endpoint is not None and str(file) == str(endpoint) == "-":
        raise BadInput("--endpoint -: standard input is the run already; name the file of one of them")
    wanted = previewing.Wanted(device, tokens_per_second, rows, processes)
    found = previewing.preview_of(file, sets or (), workdir, wanted, endpoint)
    if output is None:
        terminal.show(found, console())
    else:
        text = found.model_dump_json(by_alias=True, indent=2) if output.suffix.lower() == ".json" else page.page(found)
        out.write(output, text)
        print(f"{output}: refused: {len(found.problems)}, warnings: {len(found.warnings)}")
    lacks = found.endpoint is not None and found.endpoint.lacks
    raise typer.Exit(BAD_INPUT if found.problems or lacks else DONE)
