"""`slipway verify`"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from slipway.options import HERE, Workdir


def verify(
    what: Annotated[str, typer.Argument(metavar="NAME|FOLDER|URI", help="A run, an endpoint, a folder, or a URI.")],
    key: Annotated[
        list[Path] | None,
        typer.Option(
            "--key", metavar="FILE", help="Keys that are trusted, as JSON; else those of the .slipway of --workdir."
        ),
    ] = None,
    statement: Annotated[
        list[Path] | None,
        typer.Option("--statement", metavar="FILE", help="The statement; else those of the .slipway about the model."),
    ] = None,
    workdir: Workdir = HERE,
    output: Annotated[Literal["json"] | None, typer.Option("-o", "--output", help="Print it as JSON.")] = None,
) -> None:
    """Verify that a model is the one that was judged, and who says that it passed.

    Reads every byte. Exit code 0 holds, 1 does not hold, 3 holds and the model did not pass.
    """
    import json

    from slipway.local.state import State
    from slipway.local.verifying import Asked, verify

    found = verify(Asked(what, tuple(key or ()), tuple(statement or ())), State.below(workdir))
    if output == "json":
        print(json.dumps(found.to_document(), ensure_ascii=False, indent=2))
    else:
        print("\n".join(found.lines()))
    raise typer.Exit(found.code)
