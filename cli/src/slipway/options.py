"""Options that several commands share."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import typer

Sets = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="PATH=VALUE",
        help="Change a field, as in --set stages.pretrain.epochs=3. Can be given more than once.",
    ),
]
WORKDIR_VARIABLE = "SLIPWAY_WORKDIR"
Workdir = Annotated[
    Path,
    typer.Option(
        "--workdir",
        envvar=WORKDIR_VARIABLE,
        metavar="DIR",
        help="The folder whose .slipway holds runs, models and endpoints.",
    ),
]
HERE = Path(".")
Device = Annotated[
    str | None,
    typer.Option("--device", metavar="NAME", help="The device to estimate for, as in H100; else this machine's."),
]
Processes = Annotated[
    int | None,
    typer.Option("--processes", metavar="N", min=1, help="How many processes a stage has; else those of the file."),
]
Local = Annotated[
    bool | None,
    typer.Option(
        "--local/--cluster",
        envvar="SLIPWAY_LOCAL",
        help="The .slipway folder, or the current kube context. Left out: the folder when it holds the run, or any "
        "run where none is named, else the cluster.",
        show_default=False,
    ),
]
Context = Annotated[
    str | None, typer.Option("--context", metavar="NAME", help="A context of the kubeconfig; implies --cluster.")
]
Namespace = Annotated[
    str | None,
    typer.Option("-n", "--namespace", metavar="NAME", help="A namespace of the cluster; implies --cluster."),
]

StartTimeout = Annotated[
    str | None,
    typer.Option(
        "--start-timeout",
        metavar="DURATION",
        help="How long to wait for a model that passed to answer, as in 30m; its endpoint's rollout.startTimeout "
        "when left out, which is 15m by default. The endpoint goes on trying.",
    ),
]


def start_within(asked: str | None) -> timedelta | None:
    """Returns what --start-timeout says. Raises BadInput for what is no duration."""
    from slipway.exit_codes import BadInput
    from slipway_core.resources.api import seconds

    if asked is None:
        return None
    try:
        return timedelta(seconds=seconds(asked))
    except ValueError as error:
        raise BadInput(f"--start-timeout: {error}") from None


Lang = Annotated[Literal["en", "zh"], typer.Option("--lang", help="The language of the words: English or Chinese.")]


class Format(StrEnum):
    """How a document is printed for a script."""

    JSON = "json"
    YAML = "yaml"
