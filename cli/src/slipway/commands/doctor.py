"""`slipway doctor`"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from slipway.options import HERE, Workdir

if TYPE_CHECKING:
    from rich.console import Console

    from slipway.finding import Finding
    from slipway.local.state import State

_DEFAULT_PORT = 8000


def doctor(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="A run; the machine when left out.")] = None,
    workdir: Workdir = HERE,
    output: Annotated[
        Literal["json"] | None, typer.Option("-o", "--output", help="Print the findings for a script.")
    ] = None,
) -> None:
    """Say what is wrong and what to change.

    Looks at the machine, or at a run: out of memory, a loss that does not fall, diverges or overfits, poor or repeating
    generations. Ends with exit code 1 when it has found a problem.
    """
    from slipway import exits
    from slipway.finding import Level
    from slipway.local.state import State
    from slipway.options import Format
    from slipway.printing import console, document

    state = State.below(workdir)
    findings = _of_run(state, name) if name is not None else _of_machine(state)
    if output == "json":
        document([finding.to_document() for finding in findings], Format.JSON)
    else:
        _print(console(), findings)
    if any(finding.level is Level.PROBLEM for finding in findings):
        raise typer.Exit(exits.FAILED)


def _of_machine(state: State) -> list[Finding]:
    from slipway import machine

    endpoints = {folder.load().spec.port: folder for folder in state.endpoints()}
    own = [port for port, folder in endpoints.items() if folder.daemon() is not None]
    return machine.diagnose(machine.examine(state.root, {_DEFAULT_PORT, *endpoints}), own_ports=own)


def _of_run(state: State, name: str) -> list[Finding]:
    from slipway import run_diagnosis
    from slipway.finding import Finding, Level
    from slipway_core.status import RunStatus

    folder = state.existing_run(name)
    run = folder.load()
    status = run.status or RunStatus()
    found = run_diagnosis.diagnose(run_diagnosis.gather(run, status, folder.workspace(run)))
    return found or [Finding(Level.NOTE, name, "there is nothing to judge yet", f"it is {status.phase.value}")]


def _print(screen: Console, findings: list[Finding]) -> None:
    from rich.text import Text

    from slipway.finding import Level

    marks = {Level.GOOD: ("✓", "green"), Level.NOTE: ("·", "yellow"), Level.PROBLEM: ("✗", "red")}
    for finding in findings:
        mark, style = marks[finding.level]
        head = f"{finding.subject}: {finding.title}"
        if finding.level is Level.GOOD and finding.figure:
            head += f" ({finding.figure})"
        screen.print(Text(f"{mark} ", style=style) + Text(head, style="bold" if finding.level is Level.PROBLEM else ""))
        if finding.level is not Level.GOOD and finding.figure:
            screen.print(Text(f"    shown by: {finding.figure}"))
        if finding.fix:
            screen.print(Text(f"    {'change' if finding.level is Level.PROBLEM else 'note'}:   {finding.fix}"))
