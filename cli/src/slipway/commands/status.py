"""`slipway status`"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from slipway.options import HERE, Context, Format, Local, Namespace, Workdir

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table

    from slipway.target import Target
    from slipway_core.resources.metadata import Metadata
    from slipway_core.resources.model_endpoint import ModelEndpoint
    from slipway_core.resources.status import VersionStatus
    from slipway_core.resources.training_run import TrainingRun


def status(
    name: Annotated[
        str | None,
        typer.Argument(metavar="[NAME]", help="A run or an endpoint (endpoint/NAME where a run has that name too)."),
    ] = None,
    workdir: Workdir = HERE,
    output: Annotated[
        Format | None, typer.Option("-o", "--output", help="Print the resource with its status for a script.")
    ] = None,
    everywhere: Annotated[bool, typer.Option("-A", "--all-namespaces", help="All namespaces of the cluster.")] = False,
    local: Local = None,
    context: Context = None,
    namespace: Namespace = None,
) -> None:
    """Show how runs and endpoints are."""
    from slipway.choose_target import Wanted, choose
    from slipway.exit_codes import BadInput
    from slipway.screen.printing import console, document

    wanted = Wanted(workdir, False if everywhere and local is None else local, context, namespace)
    target = choose(wanted, name)
    if everywhere:
        if name is not None or namespace is not None:
            raise BadInput("-A: lists all namespaces; leave out NAME and -n")
        target = target.everywhere()
    if name is not None:
        found = target.find(name)
        if output is not None:
            document(found.to_document(), output)
            return
        screen = console()
        _print(screen, _page(target, found, whole=not screen.is_terminal))
        return
    runs, endpoints = target.runs(), target.endpoints()
    if output is not None:
        document({"runs": [r.to_document() for r in runs], "endpoints": [e.to_document() for e in endpoints]}, output)
        return
    screen = console()
    if not runs and not endpoints:
        screen.print(f"{target.title} holds no run; start one with `{target.start}`")
    if runs:
        screen.print(_runs_table(target, runs, spaces=everywhere))
    if endpoints:
        screen.print(*([""] if runs else []), _endpoints_table(endpoints, spaces=everywhere), sep="\n")


def _print(screen: Console, parts: list[RenderableType]) -> None:
    for part in parts:
        screen.print(part)


def _page(target: Target, found: TrainingRun | ModelEndpoint, *, whole: bool) -> list[RenderableType]:
    from slipway_core.resources.training_run import TrainingRun

    return _run_page(target, found, whole=whole) if isinstance(found, TrainingRun) else _endpoint_page(found)


def _full_name(metadata: Metadata, spaces: bool) -> str:
    return f"{metadata.namespace}/{metadata.name}" if spaces and metadata.namespace else metadata.name


def _runs_table(target: Target, runs: list[TrainingRun], *, spaces: bool) -> Table:
    from rich.table import Table

    from slipway_core.resources.status import RunStatus, StepState

    table = Table("run", "phase", "step", "progress", "loss", "verdict", "endpoint", "age", box=None, pad_edge=False)
    table.columns[0].no_wrap = True
    for run in runs:
        status = run.status or RunStatus()
        step = next((s for s in status.stages if s.state in (StepState.RUNNING, StepState.WAITING)), None)
        progress = step.progress if step else None
        loss = next((s.progress.loss for s in reversed(status.stages) if s.progress and s.progress.loss), None)
        # A run that is not finished and that nobody works on looks alive in its phase alone.
        idle = "" if status.phase.finished or target.idle(run) is None else " (not at work)"
        table.add_row(
            _full_name(run.metadata, spaces),
            f"{status.phase.value}{idle}",
            step.name if step else "",
            f"{progress.step}/{progress.total}" if progress and progress.total else "",
            f"{loss:.3f}" if loss is not None else "",
            status.evaluation.verdict.value if status.evaluation else "",
            status.endpoint.name if status.endpoint else "",
            _age(run.metadata.creation_timestamp),
        )
    return table


def _endpoints_table(endpoints: list[ModelEndpoint], *, spaces: bool) -> Table:
    from rich.table import Table

    from slipway_core.resources.status import EndpointStatus

    table = Table("endpoint", "phase", "version", "run", "candidate", "url", box=None, pad_edge=False)
    table.columns[0].no_wrap = True
    for endpoint in endpoints:
        status = endpoint.status or EndpointStatus()
        table.add_row(
            _full_name(endpoint.metadata, spaces),
            status.phase.value,
            str(status.live.version) if status.live else "",
            (status.live.run or "") if status.live else "",
            str(status.candidate.version) if status.candidate else "",
            status.url or "",
        )
    return table


def _run_page(target: Target, run: TrainingRun, *, whole: bool) -> list[RenderableType]:
    from rich.text import Text

    from slipway.diagnosis import step_warnings
    from slipway.records.gates import measured_on
    from slipway.screen import view
    from slipway.screen.visible import visible
    from slipway.target import judgements
    from slipway_core.resources.conditions import STOPPED, find
    from slipway_core.resources.status import RunStatus

    status = run.status or RunStatus()
    parts: list[RenderableType] = [Text(f"run {run.name}: {status.phase.value}", style="bold")]
    if not status.phase.finished and (idle := target.idle(run)):
        parts.append(Text(idle, style="yellow"))
    parts += ["", view.steps_table(status, whole=whole)]
    parts += [Text(visible(f"warning: {line}"), style="yellow") for line in step_warnings.of_run(status)]
    if (prepare := status.step("prepare")) is not None:
        parts += [Text(f"note: {sentence}", style="dim") for sentence in view.unfit_rows(prepare)]
    if status.evaluation is not None and status.evaluation.metrics:
        parts += ["", view.verdict_table(status.evaluation.metrics)]
        parts += [Text(f"judged on {line}", style="dim") for line in measured_on(status.evaluation.metrics)]
    if note := status.evaluation and view.baseline_note(status.evaluation):
        parts.append(note)
    if (judged := judgements(target, run)) is not None:
        parts.append(_wear(judged))
    if status.conditions:
        parts += ["", _conditions_table(status.conditions)]
    if status.artifact is not None:
        parts += [
            "",
            Text(f"model     {status.artifact.uri.removeprefix('file://')}"),
            Text(f"digest    {status.artifact.digest}"),
        ]
    if status.endpoint is not None:
        live = find(status.conditions, "Live")
        stopped = live is not None and live.status == "False" and live.reason == STOPPED
        parts.append(Text(f"endpoint  {status.endpoint.name}  {'Stopped' if stopped else status.endpoint.url or ''}"))
    places = view.places(status)
    parts += [Text(f"{name:<11} {place}") for name, place in places.items()]
    return parts


def _endpoint_page(endpoint: ModelEndpoint) -> list[RenderableType]:
    from rich.table import Table
    from rich.text import Text

    from slipway_core.resources.status import EndpointStatus

    status = endpoint.status or EndpointStatus()
    parts: list[RenderableType] = [
        Text(f"endpoint {endpoint.metadata.name}: {status.phase.value}  {status.url or ''}", style="bold")
    ]
    versions = [version for version in (status.candidate, status.live, *status.history) if version is not None]
    if versions:
        table = Table("version", "state", "run", "since", "digest", "", box=None, pad_edge=False)
        for version in versions:
            table.add_row(*_version_row(version))
        parts += ["", table]
    if status.held_out is not None:
        parts += ["", _wear(status.held_out.judgements)]
    if status.conditions:
        parts += ["", _conditions_table(status.conditions)]
    return parts


def _wear(judgements: int) -> RenderableType:
    from rich.text import Text

    from slipway_core.rollout import wear

    times = "once" if judgements == 1 else f"{judgements} times"
    style = "yellow" if wear.is_worn(judgements) else "dim"
    return Text(f"held-out data  judged upon {times} for this endpoint; it wears out at {wear.WORN_FROM}", style=style)


def _version_row(version: VersionStatus) -> tuple[str, ...]:
    digest = version.digest.removeprefix("sha256:")[:12]
    approved = f"approved by {version.approval.user}" if version.approval is not None else ""
    said = "; ".join(part for part in (approved, version.message or "") if part)
    return (str(version.version), version.state, version.run or "", _age(version.since), digest, said)


def _conditions_table(conditions: list[Any]) -> Table:
    from rich.table import Table
    from rich.text import Text

    from slipway.screen.visible import visible

    table = Table("condition", "", "reason", box=None, pad_edge=False)
    table.add_column("message", overflow="fold")  # Digests are longer than a narrow terminal leaves room for.
    for condition in conditions:
        # Not as a plain text, of which rich takes what stands in brackets for a style.
        table.add_row(condition.type, condition.status, condition.reason, Text(visible(condition.message)))
    return table


def _age(timestamp: str | None) -> str:
    from slipway_core.resources.api import in_words
    from slipway_core.resources.conditions import parse_timestamp

    if timestamp is None:
        return ""
    return in_words((datetime.now(UTC) - parse_timestamp(timestamp)).total_seconds())
