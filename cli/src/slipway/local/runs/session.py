"""A run in front of a person: started or taken up again, shown while it works, and concluded with what to do next."""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path

from rich.console import Console

from slipway import exit_codes
from slipway.local.endpoints import daemon, frozen_version
from slipway.local.runs.admission import Admitted, Refused, admit, with_retry
from slipway.local.runs.attempts import Attempts
from slipway.local.runs.executor import Executor, utc_now
from slipway.local.start_wait import start_wait
from slipway.local.state import RunFolder, State, StateError
from slipway.local.typed_command import typed
from slipway.screen import printing, view
from slipway.screen.conclusion import conclude, say_not_answering
from slipway.start_wait import awaits
from slipway_core.documents import loading
from slipway_core.lifecycle.annotations import REEVALUATE_ANNOTATION
from slipway_core.lifecycle.draft import PUBLISHED
from slipway_core.resources.conditions import find, timestamp
from slipway_core.resources.status import Phase, RunStatus
from slipway_core.resources.training_run import TrainingRun


def run_file(
    file: Path,
    *,
    overrides: Sequence[str] = (),
    workdir: Path,
    serve: bool = True,
    attach: bool = False,
    as_json: bool = False,
    start_within: timedelta | None = None,
) -> int:
    """Runs a file to its end and returns the exit code.

    0 reached Serving or Completed, 3 Rejected or Held, 2 invalid input, 1 Failed or not answering, 130 interrupted.

    Args:
        start_within: how long the model is waited for once it passed; the endpoint's startTimeout when None.

    Raises documents.DocumentError, Refused and StateError for what cannot be started.
    """
    run = loading.load(file.read_text(encoding="utf-8"), str(file), overrides=overrides)
    if not isinstance(run, TrainingRun):
        raise Refused(f"{file}: is a {run.kind}; `slipway run` takes a TrainingRun")
    if not serve:
        run = run.model_copy(update={"spec": run.spec.model_copy(update={"serving": None})})
    state = State.below(workdir)
    with state.run(run.name).lock():
        _require_access(run, file)
        _require_port(state, run)
        admitted = admit(state, run, file, utc_now())
        return _work(state, admitted, attach=attach, as_json=as_json, start_within=start_within)


def reevaluate(name: str | None, *, workdir: Path, as_json: bool = False) -> int:
    """Has a held run judged again and takes it as far as it goes. Returns the exit code of `run_file`."""
    state = State.below(workdir)
    folder = state.existing_run(name)
    with folder.lock():
        run = folder.load()
        phase = run.status.phase if run.status else Phase.PENDING
        if phase is not Phase.HELD:
            raise StateError(f"run {run.name} is {phase.value}; only a Held run is judged again")
        now = utc_now()
        annotations = {**run.metadata.annotations, REEVALUATE_ANNOTATION: timestamp(now)}
        run = run.model_copy(update={"metadata": run.metadata.model_copy(update={"annotations": annotations})})
        run = with_retry(run, now)
        folder.save(run)
        plan = folder.plan(run)
        return _work(state, Admitted(folder, run, plan, new=False), attach=False, as_json=as_json)


def _work(
    state: State, admitted: Admitted, *, attach: bool, as_json: bool, start_within: timedelta | None = None
) -> int:
    console = printing.console(error=as_json)
    before = admitted.run.status.phase if admitted.run.status else Phase.PENDING
    if not admitted.new and before.finished and before is not Phase.FAILED:
        again = "; no step runs again" if _is_published(admitted) else ""
        console.print(f"run {admitted.run.name} was done already ({before.value}){again}", highlight=False)
    if not admitted.new and not before.finished:
        console.print(f"run {admitted.run.name} goes on where it was ({before.value})", highlight=False)
    with view.choose(console) as shown:
        attempts = Attempts(admitted.folder.attempts, admitted.folder.workspace(admitted.run), utc_now)
        serving = admitted.plan.serving
        wait = start_wait(state.endpoint(serving.endpoint), utc_now, start_within) if serving is not None else None
        executor = Executor(state, admitted.folder, admitted.run, admitted.plan, attempts, shown, wait=wait)
        with _signals_to(executor, console):
            status = executor.work()
    if as_json:
        json.dump(status.to_document(), sys.stdout, ensure_ascii=False, indent=2)
        sys.stdout.write("\n")
    if executor.interrupted and serving is not None and awaits(status):
        console.print(
            f"\nStopped waiting. Endpoint {serving.endpoint} goes on starting the model; the same command waits again, "
            f"and `{typed(state, 'status', f'endpoint/{serving.endpoint}')}` says how it is.",
            highlight=False, soft_wrap=True,
        )  # fmt: skip
        return exit_codes.INTERRUPTED
    if executor.interrupted and not status.phase.finished:
        console.print("\nStopped. The same command goes on from the last checkpoint.", highlight=False)
        return exit_codes.INTERRUPTED
    if executor.gave_up is not None and wait is not None:
        say_not_answering(console, admitted.run.name, executor.gave_up, wait, partial(typed, state))
        return exit_codes.FAILED
    _conclude(console, state, admitted.folder, status, attach=attach)
    if attach and status.phase is Phase.SERVING and status.endpoint is not None:
        return _attend(console, state, status.endpoint.name)
    return exit_codes.of_run(status, admitted.folder.workspace(admitted.run))


def _is_published(admitted: Admitted) -> bool:
    """Whether nothing is left to be told of a run that is over."""
    status = admitted.run.status
    told = find(status.conditions, PUBLISHED) if status is not None else None
    return not admitted.plan.publishes or (told is not None and (told.status == "True" or told.reason == "NotPassed"))


@contextmanager
def _signals_to(executor: Executor, console: Console) -> Iterator[None]:
    def interrupt(_number: int, _frame: object) -> None:
        first = "waiting no longer" if executor.only_waits else "stopping at a checkpoint; once more kills"
        words = "killing what is left" if executor.interrupted else first
        console.print(f"\n{words} …", highlight=False)
        executor.interrupt()

    previous = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _require_access(run: TrainingRun, source: Path) -> None:
    """What cannot be served on this machine would only be noticed after the training."""
    serving = run.spec.serving
    if serving is None:
        return
    frozen_version.check(serving.template)
    keys = serving.template.access.keys_file
    if keys is not None and not (source.resolve().parent / keys).is_file():
        raise Refused(
            f"serving.template.access.keysFile: there is no file {source.resolve().parent / keys}; write keys into it, "
            f"one a line (a relative path starts at the folder of {source.name})"
        )


def _require_port(state: State, run: TrainingRun) -> None:
    """A port that somebody else has would only be noticed after the training."""
    serving = run.spec.serving
    if serving is None:
        return
    folder = state.endpoint(serving.endpoint)
    if folder.exists() and folder.daemon() is not None and folder.load().spec.port == serving.template.port:
        return
    port = serving.template.port
    holder = daemon.port_in_use(port)
    if holder is not None:
        raise Refused(
            f"serving.template.port: port {port} is in use by {holder}; stop that, or choose another port with "
            f"--set serving.template.port={port + 1}, or train without serving: --no-serve"
        )


def _conclude(console: Console, state: State, folder: RunFolder, status: RunStatus, *, attach: bool) -> None:
    def say_where() -> None:
        assert status.endpoint is not None
        _say_where(console, state, status.endpoint.name, attached=attach)

    conclude(
        console, folder.name, status, partial(typed, state),
        say_where=say_where, say_live=lambda: _say_live(console, state),
    )  # fmt: skip


def _say_where(console: Console, state: State, name: str, *, attached: bool) -> None:
    folder = state.endpoint(name)
    url = folder.status().url
    access = folder.load().spec.access
    key = '-H "authorization: Bearer $SLIPWAY_API_KEY" ' if access.keys_file or access.keys_secret else ""
    body = '{"message": "你好"}'
    chat = typed(state, "chat", name)
    console.print(f"Serving. Chat with it:  {chat}   or open {url}/", highlight=False, soft_wrap=True)
    console.print(
        f"  curl -s {url}/chat -H 'content-type: application/json' {key}-d '{body}'",
        highlight=False, soft_wrap=True, markup=False,
    )  # fmt: skip
    until = "" if attached else f" It stays up until `{typed(state, 'stop', name)}`."
    console.print(f"OpenAI clients: base_url={url}/v1.{until}", highlight=False, soft_wrap=True)
    if key:
        console.print("It asks for a key: export SLIPWAY_API_KEY=…, one of its keys, before you chat.", soft_wrap=True)


def _say_live(console: Console, state: State) -> None:
    for endpoint in state.endpoints():
        live = endpoint.status().live
        if live is not None and endpoint.daemon() is not None:
            console.print(
                f"Endpoint {endpoint.name} still serves version {live.version} of run {live.run}.", highlight=False
            )


def _attend(console: Console, state: State, name: str) -> int:
    """Stays in front of the server until Ctrl-C, then stops it."""
    console.print("Attached: Ctrl-C stops the server.", highlight=False)
    try:
        while state.endpoint(name).daemon() is not None:
            time.sleep(0.5)
    except KeyboardInterrupt:
        daemon.stop_daemon(state, name)
    return 0
