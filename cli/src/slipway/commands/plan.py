"""`slipway plan`"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from slipway.options import Format, Sets

_NO_UID = "00000000-0000-0000-0000-000000000000"
"""A run gets its uid when it starts; the digest does not cover it."""


def plan(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="YAML file of a TrainingRun; - is standard input.")],
    sets: Sets = None,
    output: Annotated[Format, typer.Option("-o", "--output", help="Format.")] = Format.YAML,
) -> None:
    """Print what would run, all defaults filled in."""
    from slipway import named_files
    from slipway.screen.printing import document
    from slipway_core.documents import loading
    from slipway_core.plan import ExecutorDefaults, resolve

    run = loading.load_run(named_files.read(file), str(file), overrides=sets or ())
    folder = ExecutorDefaults(folder=str(file.resolve().parent))
    document(resolve(run, folder, uid=run.metadata.uid or _NO_UID).to_document(), output)
