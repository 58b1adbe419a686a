"""The state folder: what runs and endpoints exist on this machine, and how they are. Files, and nothing else.

```
.slipway/runs/<name>/run.json           the TrainingRun: spec, uid, creationTimestamp, annotations
                     status.json        its status, in the schema of the resource's
                     attempts/<step>-<n>.json   the process of an attempt, and how it ended
                     events.jsonl
                     lock               held while a `slipway run` of this name is at work
                     <name>-<uid8>/     the workspace, see slipway_core.protocol.workspace
         endpoints/<name>/endpoint.json the ModelEndpoint: spec and annotations
                          status.json
                          daemon.json   the process that owns the port
                          versions/<n>/ settings frozen for a version, its verdict, its server's log, and
                                        server-ends.json: when its server ended unasked, and why
         statements/<digest>/<uid8>-<n>.json    every judgement of a model, signed; they outlive their runs
         parity/<digest>.json           records by which servers prove that they serve what was judged
         keys/signing.pem               the key that signs them; trusted.json has those that count
```
"""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from slipway.local.files import read_json, write_json
from slipway.local.processes import ProcessId, is_alive
from slipway.start_wait import ServerEnd
from slipway_core import plan as plans
from slipway_core.plan import Plan
from slipway_core.protocol.workspace import Workspace
from slipway_core.resources.model_endpoint import ModelEndpoint
from slipway_core.resources.status import EndpointPhase, EndpointStatus, RunStatus
from slipway_core.resources.training_run import TrainingRun

FOLDER = ".slipway"


class StateError(Exception):
    """What was asked for is not in the state folder, or cannot be used now. The message says what to do."""


class BusyError(StateError):
    """Another process holds the lock."""


@dataclass(frozen=True)
class State:
    root: Path
    """The `.slipway` folder."""

    @classmethod
    def below(cls, folder: Path) -> State:
        return cls(folder.resolve() / FOLDER)

    def runs(self) -> list[RunFolder]:
        """All runs, oldest first."""
        folders = [RunFolder(path.parent) for path in (self.root / "runs").glob("*/run.json")]
        return sorted(folders, key=_created)

    def endpoints(self) -> list[EndpointFolder]:
        return [EndpointFolder(path.parent) for path in sorted((self.root / "endpoints").glob("*/endpoint.json"))]

    def run(self, name: str) -> RunFolder:
        return RunFolder(self.root / "runs" / name)

    def existing_run(self, name: str | None) -> RunFolder:
        """Returns the run of that name, or the newest one. Raises StateError that lists those there are."""
        runs = self.runs()
        if name is None:
            if not runs:
                raise StateError(f"{self.root} holds no run; start one with `slipway run FILE`")
            return runs[-1]
        for folder in runs:
            if folder.name == name:
                return folder
        known = ", ".join(folder.name for folder in runs) or "none"
        raise StateError(f"there is no run {name!r} in {self.root}; there are: {known}")

    def endpoint(self, name: str) -> EndpointFolder:
        return EndpointFolder(self.root / "endpoints" / name)

    @property
    def all_statements(self) -> Path:
        return self.root / "statements"

    def statements(self, digest: str) -> Path:
        """The folder of the statements on a model."""
        return self.all_statements / digest.removeprefix("sha256:")

    @property
    def signing_key(self) -> Path:
        return self.root / "keys" / "signing.pem"

    @property
    def trusted_keys(self) -> Path:
        return self.root / "keys" / "trusted.json"

    def parity(self, digest: str) -> Path:
        """Returns where the record with this digest lies, by which a server proves that it serves what was judged."""
        return self.root / "parity" / f"{digest.removeprefix('sha256:')}.json"


def _created(folder: RunFolder) -> str:
    try:
        return folder.load().metadata.creation_timestamp or ""
    except StateError:
        return ""  # A damaged run is named when it is asked for; it must not hide the others.


@dataclass(frozen=True)
class RunFolder:
    root: Path

    @property
    def name(self) -> str:
        return self.root.name

    def exists(self) -> bool:
        return (self.root / "run.json").exists()

    def load(self) -> TrainingRun:
        """Returns the run with its status. Raises StateError when it is damaged."""
        run = _model(TrainingRun, self.root / "run.json")
        return run.model_copy(update={"status": self.status()})

    def save(self, run: TrainingRun) -> None:
        write_json(self.root / "run.json", run.model_copy(update={"status": None}).to_document())

    def status(self) -> RunStatus:
        path = self.root / "status.json"
        return _model(RunStatus, path) if path.exists() else RunStatus()

    def save_status(self, status: RunStatus) -> None:
        write_json(self.root / "status.json", status.to_document())

    def workspace(self, run: TrainingRun | None = None) -> Workspace:
        uid = (run or self.load()).metadata.uid or ""
        return Workspace(self.root / f"{self.name}-{uid[:8]}")

    def plan(self, run: TrainingRun | None = None) -> Plan:
        """Returns the plan that the run works by. Raises StateError when it is lost or damaged."""
        path = self.workspace(run).plan
        try:
            return plans.load(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            reason = str(error).splitlines()[0]
            fix = f"remove the run with `slipway rm {self.name}` and start it again"
            raise StateError(f"{path}: damaged: {reason}; {fix}") from None

    @property
    def attempts(self) -> Path:
        return self.root / "attempts"

    @property
    def events(self) -> Path:
        return self.root / "events.jsonl"

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Holds the run for this process. Raises BusyError that names the holder."""
        ways = f"`slipway watch {self.name}` looks on, `slipway stop {self.name}` stops it at a checkpoint"
        with _locked(self.root / "lock", f"run {self.name}", ways):
            yield

    def holder(self) -> int | None:
        """Returns the pid of the `slipway run` that is at work on it, None when there is none."""
        return _holder(self.root / "lock")


_ENDS = 8
"""Ends of a version's server that are remembered."""


@dataclass(frozen=True)
class EndpointFolder:
    root: Path

    @property
    def name(self) -> str:
        return self.root.name

    def exists(self) -> bool:
        return (self.root / "endpoint.json").exists()

    def load(self) -> ModelEndpoint:
        """Returns the endpoint with its status. Raises StateError when it is damaged."""
        endpoint = _model(ModelEndpoint, self.root / "endpoint.json")
        return endpoint.model_copy(update={"status": self.status()})

    def save(self, endpoint: ModelEndpoint) -> None:
        write_json(self.root / "endpoint.json", endpoint.model_copy(update={"status": None}).to_document())

    def status(self) -> EndpointStatus:
        """Returns what the daemon wrote last; without a daemon the phase is Stopped."""
        path = self.root / "status.json"
        status = _model(EndpointStatus, path) if path.exists() else EndpointStatus()
        return status if self.daemon() else status.model_copy(update={"phase": EndpointPhase.STOPPED})

    def save_status(self, status: EndpointStatus) -> None:
        write_json(self.root / "status.json", status.to_document())

    def daemon(self) -> ProcessId | None:
        """Returns the process that owns the port, None when none runs."""
        document = read_json(self.root / "daemon.json")
        if not isinstance(document, dict):
            return None
        process = ProcessId.from_document(document)
        return process if is_alive(process) else None

    def save_daemon(self, process: ProcessId) -> None:
        write_json(self.root / "daemon.json", process.to_document())

    @property
    def log(self) -> Path:
        return self.root / "daemon.log"

    def version(self, number: int) -> Path:
        return self.root / "versions" / str(number)

    def server_ends(self, version: int) -> list[ServerEnd]:
        """Returns the newest ends of the server of a version, oldest first."""
        ends: list[ServerEnd] = []
        rows: object = None
        with suppress(ValueError):  # Nothing but words for people is lost with it.
            rows = read_json(self.version(version) / "server-ends.json")
        for row in rows if isinstance(rows, list) else []:
            with suppress(ValueError, TypeError, KeyError):
                ends.append(ServerEnd(datetime.fromisoformat(row["at"]), str(row["why"]), int(row["inARow"])))
        return ends

    def add_server_end(self, version: int, end: ServerEnd) -> None:
        ends = [*self.server_ends(version), end][-_ENDS:]
        rows = [{"at": one.at.isoformat(), "why": one.why, "inARow": one.in_a_row} for one in ends]
        write_json(self.version(version) / "server-ends.json", rows)

    @contextmanager
    def lock(self) -> Iterator[None]:
        with _locked(self.root / "lock", f"endpoint {self.name}"):
            yield


_Model = TypeVar("_Model", bound=BaseModel)


def _model(kind: type[_Model], path: Path) -> _Model:
    try:
        return kind.model_validate_json(path.read_text(encoding="utf-8"), by_alias=True, by_name=False)
    except FileNotFoundError:
        raise StateError(f"{path}: there is no such file") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole"
        if first["type"] == "extra_forbidden":
            raise StateError(f"{path}: {where} was written by a newer version of slipway: upgrade this one") from None
        raise StateError(f"{path}: damaged at {where}: {first['msg']}; mend it or remove the folder") from None


@contextmanager
def _locked(path: Path, what: str, ways: str = "wait for it, or stop that process") -> Iterator[None]:
    """Holds an advisory lock, which the kernel frees however the holder ends.

    Args:
        ways: what to do where another process has it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(handle, 200, 0).decode(errors="replace").strip() or "another process"
            raise BusyError(f"{what} is held by {holder}; {ways}") from None
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
        yield
    finally:
        os.close(handle)


def _holder(path: Path) -> int | None:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        words = os.pread(handle, 200, 0).decode(errors="replace").split()
        return int(words[1]) if len(words) > 1 and words[1].isdigit() else None
    finally:
        os.close(handle)
    return None
