"""`slipway status`"""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from slipway.options import HERE, Format, Workdir

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from slipway.local.state import EndpointFolder, RunFolder, State
    from slipway_core.status import VersionStatus


def status(
    name: Annotated[
        str | None,
        typer.Argument(metavar="[NAME]", help="A run or an endpoint (endpoint/NAME where a run has that name too)."),
    ] = None,
    workdir: Workdir = HERE,
    output: Annotated[
        Format | None, typer.Option("-o", "--output", help="Print the resource with its status for a script.")
    ] = None,
) -> None:
    """Show how runs and endpoints are."""
    from slipway.local.state import State
    from slipway.printing import console, document

    state = State.below(workdir)
    if name is None:
        runs, endpoints = _readable(state.runs()), state.endpoints()
        if output is not None:
            document({"runs": [_document(r) for r in runs], "endpoints": [_document(e) for e in endpoints]}, output)
            return
        screen = console()
        if not runs and not endpoints:
            screen.print(f"{state.root} holds no run; start one with `slipway run FILE`")
        if runs:
            screen.print(_runs_table(runs))
        if endpoints:
            screen.print(*([""] if runs else []), _endpoints_table(endpoints), sep="\n")
        return
    found = find(state, name)
    if output is not None:
        document(_document(found), output)
        return
    from slipway.local.state import RunFolder

    screen = console()
    for part in _run_page(found) if isinstance(found, RunFolder) else _endpoint_page(found):
        screen.print(part)


def _readable(runs: list[RunFolder]) -> list[RunFolder]:
    """Leaves out damaged runs, which are named on stderr: one of them must not hide the others."""
    from slipway.local.state import StateError

    found: list[RunFolder] = []
    for run in runs:
        try:
            run.load()
            found.append(run)
        except StateError as error:
            print(f"slipway: {error}", file=sys.stderr)
    return found


def find(state: State, name: str) -> RunFolder | EndpointFolder:
    """Returns the run or the endpoint of that name. Raises BadInput that lists what there is."""
    from slipway.exits import BadInput

    bare = name.removeprefix("endpoint/")
    if bare == name and state.run(name).exists():
        return state.run(name)
    if state.endpoint(bare).exists():
        return state.endpoint(bare)
    runs = ", ".join(folder.name for folder in state.runs()) or "none"
    endpoints = ", ".join(folder.name for folder in state.endpoints()) or "none"
    raise BadInput(f"there is no {name!r} in {state.root}; runs: {runs}; endpoints: {endpoints}")


def _document(folder: RunFolder | EndpointFolder) -> dict[str, Any]:
    return folder.load().to_document()


def _runs_table(folders: list[RunFolder]) -> Table:
    from rich.table import Table

    from slipway_core.status import RunStatus, StepState

    table = Table("run", "phase", "step", "progress", "loss", "verdict", "endpoint", "age", box=None, pad_edge=False)
    for folder in folders:
        run = folder.load()
        status = run.status or RunStatus()
        step = next((s for s in status.stages if s.state in (StepState.RUNNING, StepState.WAITING)), None)
        progress = step.progress if step else None
        loss = next((s.progress.loss for s in reversed(status.stages) if s.progress and s.progress.loss), None)
        # A run that is not finished and that nobody works on looks alive in its phase alone.
        idle = "" if status.phase.finished or folder.holder() is not None else " (not at work)"
        table.add_row(
            run.name,
            f"{status.phase.value}{idle}",
            step.name if step else "",
            f"{progress.step}/{progress.total}" if progress and progress.total else "",
            f"{loss:.3f}" if loss is not None else "",
            status.evaluation.verdict.value if status.evaluation else "",
            status.endpoint.name if status.endpoint else "",
            _age(run.metadata.creation_timestamp),
        )
    return table


def _endpoints_table(folders: list[EndpointFolder]) -> Table:
    from rich.table import Table

    table = Table("endpoint", "phase", "version", "run", "candidate", "url", box=None, pad_edge=False)
    for folder in folders:
        status = folder.status()
        table.add_row(
            folder.name,
            status.phase.value,
            str(status.live.version) if status.live else "",
            (status.live.run or "") if status.live else "",
            str(status.candidate.version) if status.candidate else "",
            status.url or "",
        )
    return table


def _run_page(folder: RunFolder) -> list[RenderableType]:
    from rich.text import Text

    from slipway.local import view
    from slipway_core.status import RunStatus

    run = folder.load()
    status = run.status or RunStatus()
    parts: list[RenderableType] = [Text(f"run {run.name}: {status.phase.value}", style="bold")]
    if not status.phase.finished and folder.holder() is None:
        parts.append(Text("nobody is at work on it; `slipway run` with its file goes on", style="yellow"))
    parts += ["", view.steps_table(status)]
    if (prepare := status.step("prepare")) is not None:
        parts += [Text(f"note: {sentence}", style="dim") for sentence in view.unfit_rows(prepare)]
    if status.evaluation is not None:
        parts += ["", view.verdict_table(status.evaluation.metrics)]
    if status.conditions:
        parts += ["", _conditions_table(status.conditions)]
    if status.artifact is not None:
        parts += [
            "",
            Text(f"model     {status.artifact.uri.removeprefix('file://')}"),
            Text(f"digest    {status.artifact.digest}"),
        ]
    if status.endpoint is not None:
        parts.append(Text(f"endpoint  {status.endpoint.name}  {status.endpoint.url or ''}"))
    return parts


def _endpoint_page(folder: EndpointFolder) -> list[RenderableType]:
    from rich.table import Table
    from rich.text import Text

    status = folder.status()
    parts: list[RenderableType] = [
        Text(f"endpoint {folder.name}: {status.phase.value}  {status.url or ''}", style="bold")
    ]
    versions = [version for version in (status.candidate, status.live, *status.history) if version is not None]
    if versions:
        table = Table("version", "state", "run", "since", "digest", "", box=None, pad_edge=False)
        for version in versions:
            table.add_row(*_version_row(version))
        parts += ["", table]
    if status.conditions:
        parts += ["", _conditions_table(status.conditions)]
    return parts


def _version_row(version: VersionStatus) -> tuple[str, ...]:
    digest = version.digest.removeprefix("sha256:")[:12]
    return (str(version.version), version.state, version.run or "", _age(version.since), digest, version.message or "")


def _conditions_table(conditions: list[Any]) -> Table:
    from rich.table import Table

    table = Table("condition", "", "reason", "message", box=None, pad_edge=False)
    for condition in conditions:
        table.add_row(condition.type, condition.status, condition.reason, condition.message)
    return table


def _age(timestamp: str | None) -> str:
    from slipway.local import view
    from slipway_core.conditions import parse_timestamp

    if timestamp is None:
        return ""
    return view.duration((datetime.now(UTC) - parse_timestamp(timestamp)).total_seconds())
