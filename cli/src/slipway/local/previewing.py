"""A preview, from the trainer as a process of this machine."""

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
from slipway.exit_codes import BAD_INPUT, FAILED, CliError
from slipway.local import processes
from slipway.local.runs import sources
from slipway.local.state import State
from slipway_core.documents import loading
from slipway_core.protocol import variables
from slipway_core.protocol.preview import Preview


@dataclass(frozen=True)
class Wanted:
    device: str | None
    tokens_per_second: float | None
    rows: int


def preview_of(file: Path, sets: Sequence[str], workdir: Path, wanted: Wanted) -> Preview:
    """Returns the preview of a file; what the trainer says meanwhile goes to standard error.

    Raises DocumentError for a file that is no run, BadInput when it names what is not there, and CliError when the
    trainer cannot show anything, after it has said why.
    """
    run = loading.load_run(named_files.read(file), str(file), overrides=sets)
    state = State.below(workdir)
    sources.require(run, file, state)
    plan = named_files.plan_of(run, file)
    with tempfile.TemporaryDirectory(prefix="slipway-preview-", ignore_cleanup_errors=True) as folder:
        written, found = Path(folder) / "plan.json", Path(folder) / "preview.json"
        written.write_text(plan.to_json(), encoding="utf-8")
        code = _run(_arguments(written, found, wanted), {variables.RUNS_VARIABLE: str(state.root / "runs")}, folder)
        if not found.exists():
            raise CliError(
                f"{file}: cannot be previewed; the reason stands above", BAD_INPUT if code == BAD_INPUT else FAILED
            )
        return Preview.model_validate_json(found.read_text(encoding="utf-8"), by_alias=True, by_name=False)


def _run(arguments: Sequence[str], environment: Mapping[str, str], folder: str) -> int:
    """Runs the trainer's part of it and returns its exit code.

    Ctrl-C is for this process alone, which ends the other ones: each of them would say where it was just then. What
    they keep meanwhile, such as data that was fetched, lies in the folder and goes with it.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "slipway_trainer.main", "preview", *arguments],
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


def _arguments(plan: Path, output: Path, wanted: Wanted) -> list[str]:
    arguments = ["--plan", str(plan), "--output", str(output), "--rows", str(wanted.rows)]
    if wanted.device is not None:
        arguments += ["--device", wanted.device]
    if wanted.tokens_per_second is not None:
        arguments += ["--tokens-per-second", str(wanted.tokens_per_second)]
    return arguments
