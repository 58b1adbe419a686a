"""The command `slipway-trainer`: the edge between an executor and the steps of a run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from slipway_core.plan import Plan
from slipway_core.protocol.step_result import StepResult
from slipway_core.protocol.workspace import Workspace
from slipway_trainer import process, startup
from slipway_trainer.errors import StepFailure

app = typer.Typer(
    help="Runs one step of a run: prepare, train, export or evaluate.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

PlanFile = Annotated[
    Path, typer.Option("--plan", help="plan.json of the run.", exists=True, dir_okay=False, resolve_path=True)
]
Folder = Annotated[
    Path | None,
    typer.Option(
        "--workspace",
        envvar=process.WORKSPACE_VARIABLE,
        help="The run's folder; that of plan.json if left out.",
    ),
]
Attempt = Annotated[
    int,
    typer.Option("--attempt", min=1, help="Number of the attempt, from 1; a newer one fences out an older one."),
]


@app.command()
def prepare(plan: PlanFile, attempt: Attempt, workspace: Folder = None) -> None:
    """Check the data, make the tokenizer, tokenise once."""

    def body(plan: Plan, workspace: Workspace) -> StepResult:
        # This process never forks, so the tokenizer may use all processors; its helpers use one each.
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
        startup.prepare_process()
        from slipway_trainer.prepare import run

        return run(plan, workspace, attempt=attempt)

    raise typer.Exit(process.frame("prepare", body, plan_file=plan, folder=workspace, attempt=attempt))


@app.command()
def train(
    plan: PlanFile,
    attempt: Attempt,
    stage: Annotated[str, typer.Option("--stage", help="Name of the training stage.")],
    workspace: Folder = None,
) -> None:
    """Train one stage, from its last complete checkpoint if there is one."""

    def body(plan: Plan, workspace: Workspace) -> StepResult:
        startup.prepare_process()
        from slipway_trainer.train import run

        return run(plan, workspace, stage=stage, attempt=attempt)

    code = process.frame(stage, body, plan_file=plan, folder=workspace, attempt=attempt)
    raise typer.Exit(code)


@app.command()
def export(plan: PlanFile, attempt: Attempt, workspace: Folder = None) -> None:
    """Write the model as it is served."""

    def body(plan: Plan, workspace: Workspace) -> StepResult:
        startup.prepare_process()
        from slipway_trainer.export import run

        return run(plan, workspace, attempt=attempt)

    raise typer.Exit(process.frame("export", body, plan_file=plan, folder=workspace, attempt=attempt))


@app.command()
def evaluate(
    plan: PlanFile,
    attempt: Attempt,
    baseline: Annotated[
        str | None, typer.Option("--baseline", help="URI@digest of the live version to compare with.")
    ] = None,
    workspace: Folder = None,
) -> None:
    """Measure the exported model, and the live one on the same data."""

    def body(plan: Plan, workspace: Workspace) -> StepResult:
        startup.prepare_process()
        from slipway_trainer.evaluate import run

        return run(plan, workspace, attempt=attempt, baseline=baseline)

    raise typer.Exit(process.frame("evaluate", body, plan_file=plan, folder=workspace, attempt=attempt))


@app.command()
def cleanup(
    workspace: Annotated[Path, typer.Option("--workspace", help="The run's folder.")],
    keep_artifact: Annotated[bool, typer.Option("--keep-artifact", help="Leave the model that was exported.")] = False,
) -> None:
    """Remove what a deleted run left on its workspace."""
    from slipway_trainer.cleanup import remove

    try:
        remove(workspace, keep_artifact=keep_artifact)
    except StepFailure as error:
        typer.echo(f"cleanup: {error.kind}: {error}", err=True)
        raise typer.Exit(error.exit_code) from None


if __name__ == "__main__":
    app()
