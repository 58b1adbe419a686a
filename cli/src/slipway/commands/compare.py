"""`slipway compare`"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from slipway.options import HERE, Context, Lang, Local, Namespace, Workdir

if TYPE_CHECKING:
    from slipway.records.comparison import Side
    from slipway.records.record import Record
    from slipway.target import Target
    from slipway_core.resources.model_endpoint import ModelEndpoint
    from slipway_core.resources.training_run import TrainingRun


def compare(
    a: Annotated[str, typer.Argument(metavar="A", help="A run.")],
    b: Annotated[
        str | None,
        typer.Argument(
            metavar="[B]",
            help="Another run, or an endpoint (endpoint/NAME where a run has that name too): what is live there. Left "
            "out, what is live at the endpoint of A.",
        ),
    ] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", metavar="FILE", help="Write a page (.html).")] = None,
    lang: Lang = "en",
    workdir: Workdir = HERE,
    local: Local = None,
    context: Context = None,
    namespace: Namespace = None,
) -> None:
    """Show how two runs differ, or a run and what is live: figures, answers, curves, settings and data."""
    from slipway.choose_target import Wanted, choose
    from slipway.records import comparison
    from slipway.screen.pages import output as out
    from slipway.screen.report.words import Language, Words

    out.require_page(output, "a comparison")
    target = choose(Wanted(workdir, local, context, namespace), a)
    run = target.run(a)
    found = comparison.compare(_record(target, run), _other(target, run, b))
    words = Words(Language(lang))
    if output is None:
        from slipway.screen.printing import console
        from slipway.screen.report import comparison_terminal

        comparison_terminal.show(found, words, console())
        return
    from slipway.screen.report import comparison_page

    out.write(output, comparison_page.page(found, words, datetime.now(UTC)))
    print(f"{output}: {words('compared', a=found.names[0], b=found.names[1])}")


def _record(target: Target, run: TrainingRun) -> Record:
    from slipway.records import files, record

    return record.of_files(run, target.files(run, files.of_run(run)))


def _other(target: Target, run: TrainingRun, name: str | None) -> Side:
    """Returns what a run is compared with. Raises BadInput where nothing is live."""
    from slipway.exit_codes import BadInput
    from slipway.records.comparison import Side
    from slipway_core.resources.model_endpoint import ModelEndpoint

    if name is None:
        if run.spec.serving is None:
            raise BadInput(f"run {run.name} has no endpoint: name a run or an endpoint to compare it with")
        name = f"endpoint/{run.spec.serving.endpoint}"
    found = target.find(name)
    if isinstance(found, ModelEndpoint):
        return _live(target, run, found)
    artifact = found.status.artifact if found.status else None
    return Side(found.name, _record(target, found), artifact.digest if artifact else None)


def _live(target: Target, run: TrainingRun, endpoint: ModelEndpoint) -> Side:
    from slipway.exit_codes import BadInput
    from slipway.records.comparison import Side

    name = endpoint.metadata.name
    live = endpoint.status.live if endpoint.status else None
    if live is None:
        raise BadInput(f"endpoint {name} has no live version to compare with")
    mine = run.status.artifact if run.status else None
    if mine is not None and mine.digest == live.digest:
        raise BadInput(f"run {run.name} is what is live at endpoint {name}: name another run to compare it with")
    for one in target.runs():
        made = one.status.artifact if one.status else None
        if made is not None and made.digest == live.digest:
            return Side(one.name, _record(target, one), live.digest)
    return Side(f"{name}, version {live.version}", None, live.digest)
