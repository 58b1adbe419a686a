"""`slipway plan`"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from slipway.options import Format, Sets


def plan(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="YAML file of a TrainingRun; - is standard input.")],
    sets: Sets = None,
    output: Annotated[Format, typer.Option("-o", "--output", help="Format.")] = Format.YAML,
) -> None:
    """Print what would run, all defaults filled in."""
    from slipway import named_files
    from slipway.screen.printing import document
    from slipway_core.documents import loading

    run = loading.load_run(named_files.read(file), str(file), overrides=sets or ())
    document(named_files.plan_of(run, file).to_document(), output)
