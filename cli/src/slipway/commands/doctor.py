"""`slipway doctor`"""

from __future__ import annotations

from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from slipway.options import HERE, Context, Local, Namespace, Workdir

if TYPE_CHECKING:
    from rich.console import Console

    from slipway.choose_target import Wanted
    from slipway.diagnosis.finding import Finding
    from slipway.target import Target
    from slipway_core.resources.model_endpoint import ModelEndpoint

_DEFAULT_PORT = 8000


def doctor(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="A run; the machine, or the cluster, when left out.")
    ] = None,
    workdir: Workdir = HERE,
    output: Annotated[
        Literal["json"] | None, typer.Option("-o", "--output", help="Print the findings for a script.")
    ] = None,
    local: Local = None,
    context: Context = None,
    namespace: Namespace = None,
) -> None:
    """Say what is wrong and what to change.

    Looks at the machine, a cluster, or a run: what it waits for, out of memory, a loss that does not fall, diverges or
    overfits, poor or repeating generations. Ends with exit code 1 when it has found a problem.
    """
    from slipway import exit_codes
    from slipway.choose_target import Wanted
    from slipway.diagnosis.finding import Level
    from slipway.options import Format
    from slipway.screen.printing import console, document

    wanted = Wanted(workdir, local, context, namespace)
    findings = _of_run(wanted, name) if name is not None else _of_target(wanted)
    if output == "json":
        document([finding.to_document() for finding in findings], Format.JSON)
    else:
        _print(console(), findings)
    if any(finding.level is Level.PROBLEM for finding in findings):
        raise typer.Exit(exit_codes.FAILED)


def _of_target(wanted: Wanted) -> list[Finding]:
    """Looks at this machine, unless a cluster is asked for."""
    if wanted.context is None and wanted.namespace is None and wanted.local is not False:
        return _of_machine(wanted.workdir)
    from slipway.choose_target import cluster
    from slipway.cluster import diagnosis

    return diagnosis.diagnose(lambda: cluster(wanted))


def _of_machine(workdir: Path) -> list[Finding]:
    from slipway.local import machine
    from slipway.local.state import State

    state = State.below(workdir)
    endpoints = {folder.load().spec.port: folder for folder in state.endpoints()}
    own = [port for port, folder in endpoints.items() if folder.daemon() is not None]
    return machine.diagnose(machine.examine(state.root, {_DEFAULT_PORT, *endpoints}), own_ports=own)


def _of_run(wanted: Wanted, name: str) -> list[Finding]:
    from slipway.choose_target import choose
    from slipway.diagnosis import run_findings as run_findings
    from slipway.diagnosis.finding import Finding, Level
    from slipway.exit_codes import BadInput
    from slipway_core.resources.model_endpoint import ModelEndpoint
    from slipway_core.resources.status import RunStatus

    target = choose(wanted, name)
    run = target.find(name)
    if isinstance(run, ModelEndpoint):
        raise BadInput(_instead(target, run))
    phase = (run.status or RunStatus()).phase
    found = run_findings.diagnose(target.evidence(run))
    if not phase.finished and (idle := target.idle(run)):
        unseen = run.status is None and not run.spec.suspend
        level = Level.PROBLEM if unseen or target.unattended(run) else Level.NOTE
        # A note, that `slipway run` goes on, is of no use before what keeps it from that.
        problems = sum(1 for _ in takewhile(lambda finding: finding.level is Level.PROBLEM, found))
        found.insert(0 if level is Level.PROBLEM else problems, Finding(level, name, "it does not move", idle))
    return found or [Finding(Level.NOTE, name, "there is nothing to judge yet", f"it is {phase.value}")]


def _instead(target: Target, endpoint: ModelEndpoint) -> str:
    """Returns which commands look at an endpoint."""
    bare = endpoint.metadata.name
    name = f"endpoint/{bare}"
    live = endpoint.status.live if endpoint.status else None
    run = f", `{target.command('doctor', live.run)}` looks at the run of its model" if live and live.run else ""
    return (
        f"{bare} is an endpoint, and doctor looks at runs; `{target.command('status', name)}` shows how it is, "
        f"`{target.command('logs', bare)}` what its server says{run}"
    )


def _print(screen: Console, findings: list[Finding]) -> None:
    from rich.text import Text

    from slipway.diagnosis.finding import Level
    from slipway.screen.visible import visible

    marks = {Level.GOOD: ("✓", "green"), Level.NOTE: ("·", "yellow"), Level.PROBLEM: ("✗", "red")}
    for finding in findings:
        mark, style = marks[finding.level]
        # Errors and warnings have names of files and a server's words in them.
        figure, fix = visible(finding.figure), visible(finding.fix)
        head = visible(f"{finding.subject}: {finding.title}")
        if finding.level is Level.GOOD and figure:
            head += f" ({figure})"
        screen.print(Text(f"{mark} ", style=style) + Text(head, style="bold" if finding.level is Level.PROBLEM else ""))
        if finding.level is not Level.GOOD and figure:
            screen.print(Text(f"    shown by: {figure}"))
        if fix:
            screen.print(Text(f"    {'change' if finding.level is Level.PROBLEM else 'note'}:   {fix}"))
