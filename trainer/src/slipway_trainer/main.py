"""The command `slipway-trainer`: the edge between an executor and the steps of a run."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from slipway_core.protocol import variables
from slipway_host import imports
from slipway_trainer.step import startup

if TYPE_CHECKING:
    from slipway_core.plan import Plan
    from slipway_core.protocol.step_result import StepResult
    from slipway_core.protocol.workspace import Workspace

app = typer.Typer(
    help="Runs one step of a run: prepare, train, export, evaluate or publish.",
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
        envvar=variables.WORKSPACE_VARIABLE,
        help="The run's folder; that of plan.json if left out.",
    ),
]
Attempt = Annotated[
    int,
    typer.Option("--attempt", min=1, help="Number of the attempt, from 1; a newer one fences out an older one."),
]


HeldOut = Annotated[
    str | None,
    typer.Option(
        "--held-out-digest",
        envvar=variables.HELD_OUT_DIGEST_VARIABLE,
        help="Digest that the held-out data in the workspace must have, by the run's record.",
    ),
]


@app.command()
def prepare(plan: PlanFile, attempt: Attempt, held_out: HeldOut = None, workspace: Folder = None) -> None:
    """Check the data, make the tokenizer, tokenise once."""
    # This process never forks, so the tokenizer may use all processors; its helpers use one each.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    _run("prepare", "prepare.prepare", plan, workspace, attempt, held_out=held_out)


@app.command()
def train(
    plan: PlanFile,
    attempt: Attempt,
    stage: Annotated[str, typer.Option("--stage", help="Name of the training stage.")],
    workspace: Folder = None,
) -> None:
    """Train one stage, from its last complete checkpoint if there is one."""
    _run(stage, "training.train", plan, workspace, attempt, stage=stage)


@app.command()
def export(plan: PlanFile, attempt: Attempt, workspace: Folder = None) -> None:
    """Write the model as it is served."""
    _run("export", "export", plan, workspace, attempt)


@app.command()
def evaluate(
    plan: PlanFile,
    attempt: Attempt,
    baseline: Annotated[
        str | None, typer.Option("--baseline", help="URI@digest of the live version to compare with.")
    ] = None,
    held_out: HeldOut = None,
    artifact: Annotated[
        str | None,
        typer.Option(
            "--artifact-digest",
            envvar=variables.ARTIFACT_DIGEST_VARIABLE,
            help="Digest that the exported model must have, by the run's record.",
        ),
    ] = None,
    workspace: Folder = None,
) -> None:
    """Measure the exported model, and the live one on the same data."""
    _run(
        "evaluate",
        "evaluation.evaluate",
        plan,
        workspace,
        attempt,
        baseline=baseline,
        held_out=held_out,
        artifact_digest=artifact,
    )


@app.command()
def publish(plan: PlanFile, attempt: Attempt, workspace: Folder = None) -> None:
    """Tell the trackers how the run ended, and push a model that passed."""
    code = _code("publish", "publish.publish", plan, workspace, attempt)
    sys.stdout.flush()
    sys.stderr.flush()
    # A tracker's library may wait at the end of its process for a server that is away.
    os._exit(code)


@app.command()
def cleanup(
    workspace: Annotated[Path, typer.Option("--workspace", help="The run's folder.")],
    keep_artifact: Annotated[bool, typer.Option("--keep-artifact", help="Leave the model that was exported.")] = False,
    plan_digest: Annotated[
        str | None,
        typer.Option(
            "--plan-digest",
            envvar=variables.PLAN_DIGEST_VARIABLE,
            help="Digest of the run's plan: what another plan made stays.",
        ),
    ] = None,
) -> None:
    """Remove what a deleted run left on its workspace."""
    from slipway_trainer.step.cleanup import remove
    from slipway_trainer.step.errors import StepFailure

    try:
        remove(workspace, keep_artifact=keep_artifact, plan_digest=plan_digest)
    except StepFailure as error:
        typer.echo(f"cleanup: {error.kind}: {error}", err=True)
        raise typer.Exit(error.exit_code) from None


@app.command()
def preview(
    plan: PlanFile,
    output: Annotated[Path, typer.Option("--output", help="The file that gets what is to be shown, as JSON.")],
    device: Annotated[str | None, typer.Option("--device", help="Name of a GPU, or CPU.")] = None,
    tokens_per_second: Annotated[float | None, typer.Option("--tokens-per-second", min=0.001)] = None,
    rows: Annotated[int, typer.Option("--rows", min=0, max=100)] = 3,
    processes: Annotated[int | None, typer.Option("--processes", min=1, help="Of a stage; else the plan's.")] = None,
) -> None:
    """Show what a plan would learn, and train nothing."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    startup.prepare_process()
    from slipway_trainer.preview.main import write

    raise typer.Exit(
        write(plan, output, device=device, tokens_per_second=tokens_per_second, rows=rows, processes=processes)
    )


@app.command()
def memory(
    plan: PlanFile,
    output: Annotated[Path, typer.Option("--output", help="The file that gets what is to be shown, as JSON.")],
    device: Annotated[str | None, typer.Option("--device", help="Name of a GPU, or CPU.")] = None,
    processes: Annotated[int | None, typer.Option("--processes", min=1, help="Of a stage; else the plan's.")] = None,
) -> None:
    """Tell how much memory the stages of a plan take, and train nothing."""
    startup.prepare_process()
    from slipway_trainer.preview.main import write_memory

    raise typer.Exit(write_memory(plan, output, device=device, processes=processes))


def _run(step: str, module: str, plan: Path, workspace: Path | None, attempt: int, **options: object) -> NoReturn:
    """Runs a step in its frame and ends with its exit code."""
    raise typer.Exit(_code(step, module, plan, workspace, attempt, **options))


def _code(step: str, module: str, plan: Path, workspace: Path | None, attempt: int, **options: object) -> int:
    """Runs a step in its frame, by the function `run` of its module."""
    from slipway_trainer.step.run_step import run_step

    def body(plan: Plan, workspace: Workspace) -> StepResult:
        startup.prepare_process()
        # Here, since the libraries take seconds, in which a signal is already the frame's to answer.
        with imports.of_libraries():
            run = importlib.import_module(f"slipway_trainer.{module}").run
        return run(plan, workspace, attempt=attempt, **options)

    return run_step(step, body, plan_file=plan, folder=workspace, attempt=attempt)


if __name__ == "__main__":
    app()
