"""`slipway validate`"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from slipway.options import Sets


def validate(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="YAML files; - is standard input.")],
    sets: Sets = None,
) -> None:
    """Check files and name every mistake with its line and its fix."""
    from slipway import named_files
    from slipway.exit_codes import BadInput
    from slipway.local import lacking
    from slipway.screen.printing import note
    from slipway_core.documents import loading

    failures: list[str] = []
    for file in files:
        try:
            resource = loading.load(named_files.read(file), str(file), overrides=sets or ())
        except (loading.DocumentError, BadInput) as error:
            failures.append(str(error))
            continue
        # Not a mistake: the file may be meant for another machine.
        for missing in named_files.missing_files(resource, file.parent):
            note(f"{file}: note: {missing}")
        for unseen in named_files.unseen(resource):
            note(f"{file}: note: {unseen}")
        if resource.kind == "TrainingRun":
            for lack in lacking.packages(resource):
                note(f"{file}: note: {lack}")
        print(f"{file}: {resource.kind} {resource.metadata.name} is valid")
        if resource.kind == "TrainingRun":
            note(f"{file}: note: its data and its model were not read; `slipway preview {file}` shows what they hold")
    if failures:
        raise BadInput("\n".join(failures))
