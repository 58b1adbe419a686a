"""Attempts of a run's steps as processes of this machine: started, watched, ended, and remembered in files.

An attempt's record is written before its process starts, so an executor that dies in between leaves a trace, and the
next one takes the next number: two processes never write under the same one.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from subprocess import Popen
from typing import Any

from pydantic import ValidationError

from slipway.local.files import read_json, write_json
from slipway.local.processes import ProcessId, die_with_parent, group_is_alive, signal_group, signal_leader
from slipway.local.scratch import Scratch
from slipway_core.lifecycle.decision import CreateAttempt
from slipway_core.lifecycle.observed import Attempt
from slipway_core.protocol import exit_codes, step_result, variables
from slipway_core.protocol.commands import step_command
from slipway_core.protocol.exit_codes import ExitClass
from slipway_core.protocol.step_result import StepResult
from slipway_core.protocol.variables import QUIET_ENVIRONMENT
from slipway_core.protocol.workspace import Workspace
from slipway_core.resources.conditions import parse_timestamp, timestamp
from slipway_core.resources.status import Progress

GRACE_SECONDS = 60
"""Between SIGTERM and SIGKILL: long enough to write a checkpoint of a model that a laptop trains."""
_PULL_SECONDS = 0.5
_KILLED = [exit_codes.shell_code(-number) for number in (signal.SIGTERM, signal.SIGKILL)]


@dataclass
class Attempts:
    """The attempts of one run. Only one executor at a time may have it; RunFolder.lock sees to that."""

    folder: Path
    """Where the records are."""
    workspace: Workspace
    clock: Callable[[], datetime]
    grace: float = GRACE_SECONDS
    trainer: tuple[str, ...] = (sys.executable, "-m", "slipway_trainer.main")
    """The command that runs a step; its arguments follow."""
    _children: dict[tuple[str, int], Popen[bytes]] = field(default_factory=dict[tuple[str, int], Popen[bytes]])
    _scratch: dict[tuple[str, int], Scratch] = field(default_factory=dict[tuple[str, int], Scratch])
    _deadlines: dict[tuple[str, int], float] = field(default_factory=dict[tuple[str, int], float])
    _ended_by_us: set[tuple[str, int]] = field(default_factory=set[tuple[str, int]])
    """Attempts that were sent SIGTERM or SIGKILL from here."""
    _progress: dict[tuple[str, int], Progress] = field(default_factory=dict[tuple[str, int], Progress])

    def observe(self) -> dict[str, tuple[Attempt, ...]]:
        """Returns every attempt that was ever started, by step."""
        found: dict[str, list[Attempt]] = {}
        for path in sorted(self.folder.glob("*.json")):
            record = read_json(path)
            if isinstance(record, dict):
                attempt = self._observe_one(path, record)
                found.setdefault(str(record["step"]), []).append(attempt)
        return {step: tuple(attempts) for step, attempts in found.items()}

    def start(self, wanted: CreateAttempt) -> None:
        """Starts the process of an attempt. It ends with the process that started it."""
        step, number = wanted.step, wanted.number
        path, log = self._record(step, number), self.workspace.log(step, number)
        record: dict[str, Any] = {"step": step, "number": number, "startedAt": timestamp(self.clock())}
        write_json(path, record)
        for folder in (log.parent, self.workspace.result(step, number).parent):
            folder.mkdir(parents=True, exist_ok=True)
        port = _free_port()
        plan = str(self.workspace.plan)
        arguments = step_command(step, plan=plan, attempt=number, baseline=wanted.baseline)
        scratch = self._scratch[step, number] = Scratch()
        environment = {
            **os.environ,
            **QUIET_ENVIRONMENT,
            **scratch.variables(),
            variables.RESULT_VARIABLE: str(self.workspace.result(step, number)),
            variables.PROGRESS_PORT_VARIABLE: str(port),
            variables.GRACE_VARIABLE: str(int(self.grace)),
            variables.RUNS_VARIABLE: str(self.workspace.root.parent.parent),
            **wanted.inputs.variables(),
        }
        if step not in variables.JUDGE_STEPS:
            environment.pop(variables.JUDGE_KEY_VARIABLE, None)  # As on a cluster: no other step is to have it.
        with log.open("wb") as output:
            child = subprocess.Popen(
                [*self.trainer, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
                pass_fds=(scratch.handle,),
                preexec_fn=die_with_parent(signal.SIGTERM),
            )
        self._children[step, number] = child
        write_json(path, {**record, "process": ProcessId.of(child.pid).to_document(), "port": port})

    def stop(self, step: str, number: int) -> None:
        """Asks an attempt to checkpoint and end; after the grace period it is killed. Asking twice asks once."""
        if (step, number) in self._deadlines:
            return
        process = self._process(step, number)
        if process is not None:
            self._ended_by_us.add((step, number))
            signal_leader(process, signal.SIGTERM)
        self._deadlines[step, number] = time.monotonic() + self.grace

    def kill(self) -> None:
        """Kills every process of every attempt at once. Complete checkpoints stay."""
        for path in self.folder.glob("*.json"):
            record = read_json(path)
            if isinstance(record, dict) and "exitCode" not in record and "process" in record:
                self._ended_by_us.add((str(record["step"]), int(record["number"])))
                signal_group(ProcessId.from_document(record["process"]), signal.SIGKILL)

    def _observe_one(self, path: Path, record: dict[str, Any]) -> Attempt:
        step, number = str(record["step"]), int(record["number"])
        started = parse_timestamp(record["startedAt"])
        if "finishedAt" not in record:
            if self._still_runs(step, number, record):
                progress = self._pull(step, number, record)
                state = "Running" if progress else "Starting"
                return Attempt(number, state, started, progress=progress)
            record = {**record, **self._end_of(step, number)}
            write_json(path, record)
            if scratch := self._scratch.pop((step, number), None):
                scratch.remove()
        code = record.get("exitCode")
        if record.get("endedByUs") and code in _KILLED:
            # Somebody asked for it, or it was told to stop and could not answer yet, or did not: nothing is wrong with
            # the step.
            code = exit_codes.RESTARTABLE
        result, result_error = self._result(step, number)
        return Attempt(
            number=number,
            state="Ended",
            started_at=started,
            exit_class=ExitClass.INTERRUPTED if code is None else exit_codes.classify(code),
            message=self._message(step, number, code),
            result=result,
            result_error=result_error,
            finished_at=parse_timestamp(record["finishedAt"]),
            progress=self._progress.get((step, number)),
        )

    def _still_runs(self, step: str, number: int, record: dict[str, Any]) -> bool:
        child = self._children.get((step, number))
        ended = child is not None and child.poll() is not None
        if child is not None and not ended:
            self._kill_when_due(step, number, ProcessId.from_document(record["process"]))
            return True  # Only waiting for it tells that it is gone, and how it ended.
        if "process" not in record:
            return False
        process = ProcessId.from_document(record["process"])
        if not group_is_alive(process):
            return False
        if ended:
            # The leader is gone and some of its processes are not: give them a moment, then no more.
            self._deadlines.setdefault((step, number), time.monotonic() + min(5.0, self.grace))
        self._kill_when_due(step, number, process)
        return True

    def _kill_when_due(self, step: str, number: int, process: ProcessId) -> None:
        deadline = self._deadlines.get((step, number))
        if deadline is not None and time.monotonic() > deadline:
            self._ended_by_us.add((step, number))
            signal_group(process, signal.SIGKILL)

    def _end_of(self, step: str, number: int) -> dict[str, Any]:
        child = self._children.get((step, number))
        end: dict[str, Any] = {"finishedAt": timestamp(self.clock())}
        if child is not None and child.poll() is not None:
            end["exitCode"] = exit_codes.shell_code(child.returncode)
        if (step, number) in self._ended_by_us:
            end["endedByUs"] = True
        return end

    def _pull(self, step: str, number: int, record: dict[str, Any]) -> Progress | None:
        key = (step, number)
        url = f"http://127.0.0.1:{record.get('port')}/progress"
        try:
            with _open(url, timeout=_PULL_SECONDS) as response:
                self._progress[key] = Progress.model_validate_json(response.read(), by_alias=True, by_name=False)
        except (OSError, ValidationError, ValueError):
            pass  # Not up yet, or busy: the last word stands.
        return self._progress.get(key)

    def _result(self, step: str, number: int) -> tuple[StepResult | None, str | None]:
        try:
            return step_result.decode(self.workspace.result(step, number).read_text(encoding="utf-8")), None
        except FileNotFoundError:
            return None, "the process left no result"
        except (step_result.ResultError, UnicodeDecodeError) as error:
            return None, str(error)

    def _message(self, step: str, number: int, code: int | None) -> str:
        log = self.workspace.log(step, number)
        if code is None:
            return "the executor that had started it ended first"
        if code == exit_codes.RESTARTABLE:
            return "it was stopped"
        if code > 128:
            name = _signal_name(code - 128)
            hint = ", which the kernel also sends when memory runs out" if name == "SIGKILL" else ""
            return f"it was killed by {name}{hint}; its log is {log}"
        return f"it ended with exit code {code}; its log is {log}"

    def _process(self, step: str, number: int) -> ProcessId | None:
        record = read_json(self._record(step, number))
        return ProcessId.from_document(record["process"]) if isinstance(record, dict) and "process" in record else None

    def _record(self, step: str, number: int) -> Path:
        return self.folder / f"{step}-{number}.json"


def _open(url: str, timeout: float) -> Any:
    # No proxy from the environment stands between two processes of one machine.
    return urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=timeout)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
