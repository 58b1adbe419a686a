"""A preview of a run, or of its memory alone, from the trainer as a process of this machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from slipway import named_files
from slipway.exit_codes import BAD_INPUT, FAILED, BadInput, CliError
from slipway.local import processes
from slipway.local.runs import sources
from slipway.local.state import State
from slipway_core.documents import loading
from slipway_core.lifecycle.required_gates import foreseen_answers
from slipway_core.protocol import variables
from slipway_core.protocol.preview import AskedByEndpoint, PlanMemory, Preview
from slipway_core.resources.model_endpoint import ModelEndpoint
from slipway_core.resources.training_run import TrainingRun

_DONE = {"preview": "previewed", "memory": "measured"}
"""The trainer's commands, and what they do to a file."""


@dataclass(frozen=True)
class Wanted:
    device: str | None
    tokens_per_second: float | None
    rows: int
    processes: int | None = None


def preview_of(file: Path, sets: Sequence[str], workdir: Path, wanted: Wanted, endpoint: Path | None = None) -> Preview:
    """Returns the preview of a file; what the trainer says meanwhile goes to standard error.

    Args:
        endpoint: file of the endpoint whose `promotion` the run is held against.

    Raises DocumentError for a file that is no run, or no endpoint, BadInput when it names what is not there or another
    endpoint, and CliError when the trainer cannot show anything, after it has said why.
    """
    run = loading.load_run(named_files.read(file), str(file), overrides=sets)
    asking = None if endpoint is None else _endpoint_of(endpoint, run)
    state = State.below(workdir)
    sources.require(run, file, state)
    text = _told("preview", run, file, state, _arguments(wanted))
    found = Preview.model_validate_json(text, by_alias=True, by_name=False)
    return found if asking is None else found.model_copy(update={"endpoint": _asked_by(asking, run, file, found)})


def _endpoint_of(file: Path, run: TrainingRun) -> ModelEndpoint:
    """Returns the endpoint that a file holds. Raises DocumentError, and BadInput where the run serves at another."""
    found = loading.load(named_files.read(file), str(file))
    if not isinstance(found, ModelEndpoint):
        raise BadInput(f"--endpoint {file}: is a {found.kind}; name the file of a ModelEndpoint")
    serving = run.spec.serving
    if serving is not None and serving.endpoint != found.metadata.name:
        raise BadInput(
            f"--endpoint {file}: is the endpoint {found.metadata.name}, and the run serves at {serving.endpoint} "
            "(spec.serving.endpoint); name the file of that one"
        )
    return found


def _asked_by(endpoint: ModelEndpoint, run: TrainingRun, file: Path, found: Preview) -> AskedByEndpoint:
    name, promotion = endpoint.metadata.name, endpoint.spec.promotion
    if promotion is None:
        return AskedByEndpoint(name=name)
    data = [None if one.unsure else one.digest for one in found.held_out.gate_data]
    answers = foreseen_answers(named_files.plan_of(run, file), promotion, name, data)
    return AskedByEndpoint(name=name, approval=promotion.mode == "Approval", gates=answers)


def memory_of(file: Path, sets: Sequence[str], workdir: Path, device: str | None, processes: int | None) -> PlanMemory:
    """Returns the memory that the stages of a file take; its data need not be there. Raises as `preview_of` does."""
    run = loading.load_run(named_files.read(file), str(file), overrides=sets)
    text = _told("memory", run, file, State.below(workdir), _placed(device, processes))
    return PlanMemory.model_validate_json(text, by_alias=True, by_name=False)


def _told(what: str, run: TrainingRun, file: Path, state: State, arguments: Sequence[str]) -> str:
    """Returns what a command of the trainer writes about the plan of a run."""
    plan = named_files.plan_of(run, file)
    with tempfile.TemporaryDirectory(prefix=f"slipway-{what}-", ignore_cleanup_errors=True) as folder:
        written, found = Path(folder) / "plan.json", Path(folder) / f"{what}.json"
        written.write_text(plan.to_json(), encoding="utf-8")
        command = [what, "--plan", str(written), "--output", str(found), *arguments]
        code = _run(command, {variables.RUNS_VARIABLE: str(state.root / "runs")}, folder)
        if not found.exists():
            raise CliError(
                f"{file}: cannot be {_DONE[what]}; the reason stands above", BAD_INPUT if code == BAD_INPUT else FAILED
            )
        return found.read_text(encoding="utf-8")


def _run(command: Sequence[str], environment: Mapping[str, str], folder: str) -> int:
    """Runs the trainer's part of it and returns its exit code.

    Ctrl-C is for this process alone, which ends the other ones: each of them would say where it was just then. What
    they keep meanwhile, such as data that was fetched, lies in the folder and goes with it.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "slipway_trainer.main", *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        env={
            **os.environ,
            **variables.QUIET_ENVIRONMENT,
            "TOKENIZERS_PARALLELISM": "true",
            "TMPDIR": folder,
            **environment,
        },
        start_new_session=True,
        preexec_fn=processes.die_with_parent(signal.SIGKILL),
    )
    try:
        return process.wait()
    finally:
        processes.end(process, grace=0)


def _arguments(wanted: Wanted) -> list[str]:
    arguments = ["--rows", str(wanted.rows), *_placed(wanted.device, wanted.processes)]
    if wanted.tokens_per_second is not None:
        arguments += ["--tokens-per-second", str(wanted.tokens_per_second)]
    return arguments


def _placed(device: str | None, processes: int | None) -> list[str]:
    return [
        *(["--device", device] if device is not None else []),
        *(["--processes", str(processes)] if processes is not None else []),
    ]
