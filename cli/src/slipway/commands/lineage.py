"""`slipway lineage`"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from slipway.options import HERE, Context, Local, Namespace, Workdir

if TYPE_CHECKING:
    from slipway.records.lineage_graph import Lineage
    from slipway.target import Target


class Drawing(StrEnum):
    """How a lineage is told."""

    TEXT = "text"
    JSON = "json"
    MERMAID = "mermaid"


def lineage(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME|URI]",
            help="A run, an endpoint (endpoint/NAME where a run has that name too), or the URI of a model; the newest "
            "run when left out.",
        ),
    ] = None,
    output: Annotated[
        Drawing, typer.Option("-o", "--output", help="For people, for a script, or as a chart.")
    ] = Drawing.TEXT,
    workdir: Workdir = HERE,
    local: Local = None,
    context: Context = None,
    namespace: Namespace = None,
) -> None:
    """Show what a model was made of: version, artifact, judgement, plan, data and base, with every digest.

    Models that other runs here made are followed to what those were made of. What cannot be read is said.
    """
    from slipway.choose_target import Wanted, choose
    from slipway.options import Format
    from slipway.screen.printing import document

    uri = name is not None and "://" in name
    target = choose(Wanted(workdir, local, context, namespace), None if uri else name)
    found = _of(target, name, uri=uri)
    if output is Drawing.JSON:
        document(found.to_document(), Format.JSON)
    elif output is Drawing.MERMAID:
        from slipway.screen.lineage import mermaid

        print(mermaid.chart(found), end="")
    else:
        from slipway.screen.lineage import text

        for line in text.lines(found):
            print(line)


def _of(target: Target, name: str | None, *, uri: bool) -> Lineage:
    from slipway.records import lineage as lineages
    from slipway_core.resources import uris
    from slipway_core.resources.model_endpoint import ModelEndpoint

    if name is None:
        return lineages.of_run(target, target.run(None))
    if uri:
        parsed = uris.parse(name)
        if parsed.scheme == "run":
            return lineages.of_run(target, target.run(parsed.authority))
        return lineages.of_uri(target, name)
    found = target.find(name)
    if isinstance(found, ModelEndpoint):
        return lineages.of_endpoint(target, found)
    return lineages.of_run(target, found)
