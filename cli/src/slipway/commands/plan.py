"""`slipway plan`"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from slipway.options import HERE, Device, Format, Processes, Sets, Workdir


def plan(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="YAML file of a TrainingRun; - is standard input.")],
    sets: Sets = None,
    output: Annotated[
        Format | None, typer.Option("-o", "--output", help="Format.", show_default="yaml; a table with --memory")
    ] = None,
    memory: Annotated[bool, typer.Option("--memory", help="Show the memory that each stage takes instead.")] = False,
    device: Device = None,
    processes: Processes = None,
    workdir: Workdir = HERE,
) -> None:
    """Print what would run, all defaults filled in, or with --memory what its stages take.

    Exit code 2 when a stage cannot fit into the memory.
    """
    from slipway import named_files
    from slipway.exit_codes import BadInput
    from slipway.screen.printing import document
    from slipway_core.documents import loading

    if memory:
        _show_memory(file, sets, output, device, processes, workdir)
    if device is not None or processes is not None:
        raise BadInput("--device and --processes are of --memory: add it, or leave them out")
    run = loading.load_run(named_files.read(file), str(file), overrides=sets or ())
    document(named_files.plan_of(run, file).to_document(), output or Format.YAML)


def _show_memory(
    file: Path, sets: Sets, output: Format | None, device: str | None, processes: int | None, workdir: Path
) -> None:
    """Ends the command."""
    from slipway.exit_codes import BAD_INPUT, DONE
    from slipway.local import previewing
    from slipway.screen.preview import memory_terminal
    from slipway.screen.printing import console, document

    found = previewing.memory_of(file, sets or (), workdir, device, processes)
    if output is None:
        memory_terminal.show(found, console())
    else:
        document(found.model_dump(by_alias=True, mode="json"), output)
    raise typer.Exit(BAD_INPUT if any(stage.memory.refused for stage in found.stages) else DONE)
