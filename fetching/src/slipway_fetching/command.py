"""The command `slipway-fetch`: the init container of a server whose model is not on a volume."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from slipway_core.protocol import exit_codes
from slipway_core.protocol.artifact import ArtifactError
from slipway_fetching import served_model
from slipway_fetching.errors import FetchError, NoRoom, Refused

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
FAILED = 1
"""Exit code when it could not be read: keys may be mended, and a store come back, while a pod tries again. A model that
may not be served, or has no room, ends with exit_codes.BAD_INPUT."""


@app.command()
def run(
    uri: Annotated[str, typer.Option(help="s3://bucket/path, gs://bucket/path or hf://org/name[@revision].")],
    to: Annotated[Path, typer.Option(help="Empty folder that the model goes into.")],
    digest: Annotated[str | None, typer.Option(help="Digest that the model must have (sha256:HEX).")] = None,
    accept_unjudged: Annotated[
        bool, typer.Option(help="Take a model without a manifest and without a digest.")
    ] = False,
) -> None:
    """Fetch a model, verify every byte of it, and print its digest."""
    try:
        manifest = served_model.fetch(
            served_model.store_for(uri, to),
            uri,
            to,
            digest=digest,
            accept_unjudged=accept_unjudged,
            now=datetime.now(UTC),
            say=_say,
        )
    except (Refused, NoRoom, ArtifactError) as error:
        _say(str(error))
        raise typer.Exit(exit_codes.BAD_INPUT) from None
    except (FetchError, OSError) as error:
        _say(str(error))
        raise typer.Exit(FAILED) from None
    typer.echo(served_model.summary(manifest))


def _say(text: str) -> None:
    typer.echo(f"slipway-fetch: {text}", err=True)
