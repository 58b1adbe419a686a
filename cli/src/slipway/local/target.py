"""The state folder of this machine, as the commands see it."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from slipway import exit_codes
from slipway.diagnosis.run_findings import Evidence, gather
from slipway.exit_codes import BadInput, CliError
from slipway.local.served_now import as_served_now, endpoint_reason
from slipway.local.start_wait import start_wait
from slipway.local.state import EndpointFolder, RunFolder, State, StateError
from slipway.local.typed_command import typed
from slipway.records.files import Files, read_folder
from slipway.start_wait import StartWait, is_awaited
from slipway.target import LogRequest, OrphanedFolder, Reached, Target, Write
from slipway.training_metrics import StageMetrics, read_run
from slipway_core.resources import uris
from slipway_core.resources.model_endpoint import ModelEndpoint
from slipway_core.resources.status import HeldOutStatus, RunStatus
from slipway_core.resources.training_run import TrainingRun
from slipway_core.resources.uris import UriError

_SECONDS = 0.5
"""Between two looks at a run that is followed."""


@dataclass(frozen=True)
class LocalTarget:
    state: State

    @property
    def title(self) -> str:
        return str(self.state.root)

    @property
    def start(self) -> str:
        return "slipway run FILE"

    def command(self, *words: str) -> str:
        return typed(self.state, *words)

    def everywhere(self) -> Target:
        raise BadInput(f"-A: {self.title} is a folder and has no namespaces; leave out -A or --local")

    def runs(self) -> list[TrainingRun]:
        found: list[TrainingRun] = []
        for folder in self.state.runs():
            try:
                found.append(self._load(folder))
            except StateError as error:
                # One damaged run must not hide the others.
                print(f"slipway: {error}", file=sys.stderr)
        return found

    def endpoints(self) -> list[ModelEndpoint]:
        return [folder.load() for folder in self.state.endpoints()]

    def find(self, name: str) -> TrainingRun | ModelEndpoint:
        bare = name.removeprefix("endpoint/")
        if bare == name and self.state.run(name).exists():
            return self._load(self.state.run(name))
        if self.state.endpoint(bare).exists():
            return self.state.endpoint(bare).load()
        runs = ", ".join(folder.name for folder in self.state.runs()) or "none"
        endpoints = ", ".join(folder.name for folder in self.state.endpoints()) or "none"
        raise BadInput(f"there is no {name!r} in {self.title}; runs: {runs}; endpoints: {endpoints}")

    def run(self, name: str | None) -> TrainingRun:
        return self._load(self.state.existing_run(name))

    def idle(self, run: TrainingRun) -> str | None:
        if self._folder(run).holder() is not None:
            return None
        return "nobody is at work on it; `slipway run` with its file goes on"

    def unattended(self, run: TrainingRun) -> str | None:
        return None

    def follow(self, name: str | None) -> Iterator[TrainingRun]:
        folder = self.state.existing_run(name)
        while True:
            at_work = folder.holder() is not None
            run = self._load(folder)
            yield run
            finished = run.status is not None and run.status.phase.finished
            if (finished and not is_awaited(run)) or not (at_work or finished):
                return
            time.sleep(_SECONDS)

    def start_wait(self, run: TrainingRun, within: timedelta | None) -> StartWait | None:
        serving = run.spec.serving
        if serving is None:
            return None
        return start_wait(self.state.endpoint(serving.endpoint), lambda: datetime.now(UTC), within)

    def exit_code(self, run: TrainingRun) -> int:
        return exit_codes.of_run(run.status or RunStatus(), self._folder(run).workspace(run))

    def logs(self, wanted: LogRequest, write: Write) -> None:
        from slipway.local import logs

        logs.copy(self.state, wanted, write)

    def curves(self, run: TrainingRun) -> list[StageMetrics]:
        return read_run(run, self._folder(run).workspace(run))

    def evidence(self, run: TrainingRun) -> Evidence:
        found = gather(run, run.status or RunStatus(), self._folder(run).workspace(run))
        return replace(found, silence=endpoint_reason(self.state, run))

    def files(self, run: TrainingRun, names: Sequence[str]) -> Files:
        return read_folder(self._folder(run).workspace(run).root, names)

    def folder(self, uri: str, names: Sequence[str]) -> Files:
        try:
            place = uris.anchor(uris.parse(uri), str(self.state.root.parent))
        except UriError as error:
            return Files(trouble=str(error))
        if place.scheme != "file":
            return Files(trouble=f"{uri}: does not lie on this machine, and is not fetched to be looked at")
        folder = Path(place.path)
        return read_folder(folder, names) if folder.is_dir() else Files(trouble=f"{uri}: there is no such folder")

    def statements(self, digest: str) -> Files:
        folder = self.state.statements(digest)
        return read_folder(folder, sorted(path.name for path in folder.glob("*.json")))

    def held_out(self, endpoint: str) -> HeldOutStatus | None:
        from slipway.local.judgements import Judgements
        from slipway_core.rollout import wear

        folder = self.state.endpoint(endpoint)
        was = folder.status().held_out if folder.exists() else None
        return wear.counted(was, Judgements(self.state, lambda: datetime.now(UTC)).of(endpoint))

    @contextmanager
    def reach(self, name: str | None) -> Iterator[Reached]:
        serving = {folder.name: folder for folder in self.state.endpoints() if folder.daemon() is not None}
        if name is not None and name not in serving and self.state.run(name).exists():
            endpoint = self.state.run(name).status().endpoint
            name = endpoint.name if endpoint else name
        if name is None and len(serving) == 1:
            name = next(iter(serving))
        if name not in serving:
            known = (
                f"these serve: {', '.join(serving)}" if serving else f"nothing serves here; `{self.start}` changes that"
            )
            raise BadInput(f"{name} does not serve; {known}" if name else f"name an endpoint or an address; {known}")
        url = serving[name].status().url
        if url is None:
            raise CliError(f"endpoint {name} is still starting; `slipway status {name}` shows when it is live")
        url = url.rstrip("/") + "/"
        yield Reached(url, url)

    def stop(self, name: str | None) -> Iterator[str]:
        endpoints = {folder.name: folder for folder in self.state.endpoints()}
        bare = None if name is None else name.removeprefix("endpoint/")
        if name is not None and bare not in endpoints:
            if bare != name or not self.state.run(name).exists():
                runs = ", ".join(folder.name for folder in self.state.runs()) or "none"
                known = f"endpoints: {', '.join(endpoints) or 'none'}; runs: {runs}"
                raise BadInput(f"there is no endpoint and no run {name!r} in {self.title}; {known}")
            yield from _interrupt(self.state.run(name))
            return
        chosen = [endpoints[bare]] if bare else list(endpoints.values())
        yield from self._stop_servers(bare, [folder for folder in chosen if folder.daemon() is not None])

    def _stop_servers(self, name: str | None, live: list[EndpointFolder]) -> Iterator[str]:
        from slipway.local.endpoints.daemon import stop_daemon

        for folder in live:
            stop_daemon(self.state, folder.name)
            yield f"endpoint {folder.name} is stopped"
        if not live:
            yield f"endpoint {name} does not run" if name else "nothing serves"

    def resume(self, name: str) -> Iterator[str]:
        self.find(name)
        raise BadInput(f"on this machine `slipway run` with its file takes {name} up again")

    def remove(self, name: str, *, now: bool = False) -> Iterator[str]:
        # What is removed here goes at once: nothing stays that --now could hurry.
        from slipway.local.removal import remove_endpoint, remove_run

        kind, _, endpoint = name.partition("/")
        if kind == "endpoint" and endpoint:
            return remove_endpoint(self.state, endpoint)
        return remove_run(self.state, name)

    def orphaned(self) -> list[OrphanedFolder]:
        raise BadInput(
            f"--orphaned: {self.title} keeps nothing of a run that is removed; leave it out, or say --cluster"
        )

    def reevaluate(self, name: str | None, *, as_json: bool) -> int:
        from slipway.local.runs.session import reevaluate

        return reevaluate(name, workdir=self.state.root.parent, as_json=as_json)

    def approve(self, name: str, digest: str | None) -> Iterator[str]:
        raise BadInput(
            f"{name} is on this machine, where an endpoint takes every model that passed: spec.promotion, and an "
            "approval, are of a cluster; name it with --cluster, --context or -n"
        )

    def _load(self, folder: RunFolder) -> TrainingRun:
        return as_served_now(self.state, folder.load())

    def _folder(self, run: TrainingRun) -> RunFolder:
        return self.state.run(run.name)


def _interrupt(folder: RunFolder) -> Iterator[str]:
    holder = folder.holder()
    if holder is None:
        yield f"run {folder.name} is not at work"
        return
    os.kill(holder, signal.SIGTERM)
    yield f"run {folder.name} stops at a checkpoint …"
    while folder.holder() == holder:
        time.sleep(0.2)
    yield f"run {folder.name} is stopped; `slipway run` goes on from there"
