"""Options that several commands share."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

Sets = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="PATH=VALUE",
        help="Change a field, as in --set stages.pretrain.epochs=3. Can be given more than once.",
    ),
]
Workdir = Annotated[
    Path,
    typer.Option(
        "--workdir",
        envvar="SLIPWAY_WORKDIR",
        metavar="DIR",
        help="The folder whose .slipway holds runs, models and endpoints.",
    ),
]
HERE = Path(".")


class Format(StrEnum):
    """How a document is printed for a script."""

    JSON = "json"
    YAML = "yaml"
