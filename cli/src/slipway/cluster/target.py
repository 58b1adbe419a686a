"""A namespace of a cluster, as the commands see it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from slipway import exit_codes
from slipway.cluster.attendance import Absence, Attendance
from slipway.cluster.kubectl import ClusterError, Forbidden, Kubectl, NotFound, Unreachable
from slipway.cluster.resources import ENDPOINTS, RUNS, endpoint_of, run_of
from slipway.exit_codes import BadInput
from slipway.screen.printing import note
from slipway.start_wait import StartWait, is_awaited, model_of, why_silent
from slipway.target import LogRequest, OrphanedFolder, Reached, Write
from slipway.training_metrics import StageMetrics
from slipway_core.lifecycle.annotations import REEVALUATE_ANNOTATION, RETRY_ANNOTATION
from slipway_core.protocol.workspace import folder_of
from slipway_core.resources.conditions import parse_timestamp, timestamp
from slipway_core.resources.model_endpoint import ModelEndpoint
from slipway_core.resources.status import HeldOutStatus, Phase, RunStatus
from slipway_core.resources.training_run import TrainingRun

if TYPE_CHECKING:
    from slipway.diagnosis.run_findings import Evidence
    from slipway.records.files import Files

BEFORE_STOP = "slipway.dev/before-stop"
"""Annotation of a stopped endpoint: its replicas and autoscaling as they were, as JSON."""
UNSEEN_SECONDS = 30.0
"""After which a run that has no status is one that no operator looks at."""
_SILENCE = 10.0
"""Seconds without a change after which who follows a run may say why it does not move."""
_LOOK_SECONDS = 9.0
"""For how long a look at the operator is good enough."""
_PAUSE = 2.0
"""Seconds before a watch that broke is opened again."""


def _now() -> datetime:
    return datetime.now(UTC)


def _told_apart(folder: OrphanedFolder, run: TrainingRun) -> str:
    """Returns a name of a folder that is none of a run's."""
    return f"pvc://{folder.place}" if folder.folder == run.name and folder.place else folder.folder


@dataclass(frozen=True)
class ClusterTarget:
    kubectl: Kubectl
    also_searched: str | None = None
    """Where else the name was looked for, to be told when it is not here either."""
    clock: Callable[[], datetime] = _now
    sleep: Callable[[float], None] = time.sleep
    _looks: list[tuple[datetime, Attendance]] = field(default_factory=list, repr=False, compare=False)
    """The last look at the operator."""

    @property
    def title(self) -> str:
        return self.kubectl.title

    @property
    def start(self) -> str:
        return self.command("submit", "FILE")

    def command(self, *words: str) -> str:
        return " ".join(("slipway", *words, self.kubectl.options))

    def everywhere(self) -> ClusterTarget:
        return replace(self, kubectl=replace(self.kubectl, everywhere=True))

    def runs(self) -> list[TrainingRun]:
        runs = _readable(run_of, self.kubectl.list(RUNS))
        return sorted(runs, key=lambda run: run.metadata.creation_timestamp or "")

    def endpoints(self) -> list[ModelEndpoint]:
        return _readable(endpoint_of, self.kubectl.list(ENDPOINTS))

    def find(self, name: str) -> TrainingRun | ModelEndpoint:
        bare = name.removeprefix("endpoint/")
        if bare == name and (run := self._get(RUNS, name)) is not None:
            return run_of(run)
        if (endpoint := self._get(ENDPOINTS, bare)) is not None:
            return endpoint_of(endpoint)
        raise BadInput(f"there is no {name!r} in {self._where}; {self._known()}")

    def run(self, name: str | None) -> TrainingRun:
        if name is not None:
            found = self._get(RUNS, name)
            if found is None:
                raise BadInput(f"there is no run {name!r} in {self._where}; {self._known()}")
            return run_of(found)
        runs = self.runs()
        if not runs:
            raise BadInput(f"{self._where} holds no run; start one with `{self.start}`")
        return runs[-1]

    def idle(self, run: TrainingRun) -> str | None:
        if run.spec.suspend:
            return f"somebody stopped it; `{self.command('resume', run.name)}` takes it up again"
        created = run.metadata.creation_timestamp
        age = (self.clock() - parse_timestamp(created)).total_seconds() if created else 0.0
        if age > UNSEEN_SECONDS and (why := self.unattended(run)):
            return why
        if run.status is None and age > UNSEEN_SECONDS:
            return "no operator has looked at it; `kubectl get deployments -n slipway-system` shows how it is"
        return None

    def unattended(self, run: TrainingRun) -> str | None:
        found = self._attendance().of(run.metadata.namespace or self.kubectl.namespace)
        return str(found) if isinstance(found, Absence) else None

    def _attendance(self) -> Attendance:
        """Returns what was seen a moment ago: a table asks for each of its runs, and who looks on every ten seconds."""
        now = self.clock()
        if not self._looks or (now - self._looks[-1][0]).total_seconds() >= _LOOK_SECONDS:
            self._looks[:] = [(now, Attendance(self.kubectl, self.clock))]
        return self._looks[-1][1]

    def follow(self, name: str | None) -> Iterator[TrainingRun]:
        name = self.run(name).name
        while True:
            try:
                for document in self.kubectl.watch(RUNS, name, silence=_SILENCE):
                    run = run_of(document)
                    yield run
                    status = run.status or RunStatus()
                    rests = status.phase.rests and not is_awaited(run)
                    if _current(run) and (rests or (status.phase is Phase.SUSPENDED and run.spec.suspend)):
                        return
            except Unreachable as error:
                note(f"{error}; still trying")
                self.sleep(_PAUSE)

    def start_wait(self, run: TrainingRun, within: timedelta | None) -> StartWait | None:
        from slipway.cluster.start_wait import start_wait

        serving = run.spec.serving
        return start_wait(self.kubectl, serving, self.clock, within) if serving is not None else None

    def exit_code(self, run: TrainingRun) -> int:
        return exit_codes.of_run(run.status or RunStatus())

    def logs(self, wanted: LogRequest, write: Write) -> None:
        from slipway.cluster.logs import Copy

        copy = Copy(self.kubectl, write, self.sleep)
        found = self.run(None) if wanted.name is None else self.find(wanted.name)
        if isinstance(found, ModelEndpoint):
            copy.endpoint(found, wanted)
        elif wanted.step == "serve":
            if found.spec.serving is None:
                raise BadInput(f"--stage serve: run {found.name} has no serving")
            copy.endpoint(self._endpoint(found.spec.serving.endpoint), wanted)
        else:
            copy.run(found, wanted, lambda: self._is_at_work(found.name))

    def curves(self, run: TrainingRun) -> list[StageMetrics]:
        from slipway.cluster.evidence import curves

        return curves(self.kubectl, run, note)

    def evidence(self, run: TrainingRun) -> Evidence:
        from slipway.cluster.evidence import gather

        return replace(gather(self.kubectl, run, note), silence=self._silence(run))

    def _silence(self, run: TrainingRun) -> str | None:
        """Returns why the model of a run that passed does not answer, as its endpoint and its pods tell it."""
        from slipway.cluster.start_wait import Look

        status, serving = run.status or RunStatus(), run.spec.serving
        if serving is None or not is_awaited(run):
            return None
        seen = Look(self.kubectl, serving, self.clock)(model_of(status))
        return why_silent(status, seen) if seen is not None else None

    def files(self, run: TrainingRun, names: Sequence[str]) -> Files:
        from slipway.cluster.evidence import files

        return files(self.kubectl, run, names, note)

    def folder(self, uri: str, names: Sequence[str]) -> Files:
        from slipway.cluster.evidence import folder

        return folder(self.kubectl, uri, names, note)

    def statements(self, digest: str) -> Files:
        from slipway.cluster.verifying import statements
        from slipway.records.files import Files

        try:
            found = statements(self.kubectl, digest)
        except ClusterError as error:
            return Files(trouble=f"its signed judgements cannot be read: {error}")
        return Files({name: text.encode() for name, text in found.items()})

    def model_of(self, name: str) -> tuple[str, str]:
        """Returns URI and digest of the model of a run, or of the live version of an endpoint."""
        found = self.find(name)
        if isinstance(found, TrainingRun):
            status = found.status or RunStatus()
            if status.artifact is None:
                raise BadInput(f"{name}: that run is {status.phase.value} and has no model yet")
            return status.artifact.uri, status.artifact.digest
        live = found.status.live if found.status is not None else None
        if live is None:
            raise BadInput(f"{name}: that endpoint has no live version")
        return live.uri, live.digest

    def held_out(self, endpoint: str) -> HeldOutStatus | None:
        from slipway_core.rollout import wear

        try:
            there = self._get(ENDPOINTS, endpoint)
        except Forbidden:
            return None
        status = endpoint_of(there).status if there is not None else None
        if status is not None and status.held_out is not None:
            return status.held_out
        own = [run for run in self.runs() if run.spec.serving and run.spec.serving.endpoint == endpoint]
        return wear.counted(None, [judged for run in own if (judged := wear.judgements_of(run)) is not None])

    @contextmanager
    def reach(self, name: str | None) -> Iterator[Reached]:
        from slipway.cluster.port_forward import HOST, ForwardedTransport, PortForward

        endpoint = self._serving(name)
        title = f"endpoint {endpoint.metadata.name} in {self.title}"
        with PortForward(self.kubectl, endpoint.metadata.name, endpoint.spec.port) as forward:
            yield Reached(f"http://{HOST}:{forward.port}/", title, ForwardedTransport(forward, self.sleep))

    def approve(self, name: str, digest: str | None) -> Iterator[str]:
        from slipway.cluster import approval

        found = self.find(name)
        if isinstance(found, TrainingRun):
            if found.spec.serving is None:
                raise BadInput(f"run {found.name} has no serving, so its model goes to no endpoint")
            endpoint = self._endpoint(found.spec.serving.endpoint)
            awaiting, artifact = approval.waits_at(endpoint), found.status and found.status.artifact
            waits = f"what waits at endpoint {endpoint.metadata.name} is {awaiting.digest}"
            other = f"`{self.command('approve', f'endpoint/{endpoint.metadata.name}')}` shows it"
            if artifact is None or artifact.digest != awaiting.digest:
                raise BadInput(f"{waits}, which is not the model of run {found.name}; {other}")
            if awaiting.run_uid not in (None, found.metadata.uid):
                judge = approval.judge_of(awaiting)
                raise BadInput(f"{waits}, as judged by {judge}, and not by the run {found.name} that is there; {other}")
        else:
            endpoint = found
        yield from approval.describe(self.kubectl, endpoint)
        if digest is not None:
            yield from approval.approve(self.kubectl, endpoint, digest)
            return
        # By the name of the run that was shown: another one may have judged the model by then.
        named = approval.run_to_name(self.kubectl, endpoint) or name
        again = self.command("approve", named, "--digest", approval.waits_at(endpoint).digest)
        yield f"nothing is approved yet: `{again}` does that"

    def stop(self, name: str | None) -> Iterator[str]:
        if name is None:
            raise BadInput(f"name what to stop: {self._known()}")
        found = self.find(name)
        if isinstance(found, ModelEndpoint):
            yield from self._stop_endpoint(found)
            return
        phase = (found.status or RunStatus()).phase
        if phase.finished or found.spec.suspend:
            yield f"run {found.name} is not at work ({'stopped already' if found.spec.suspend else phase.value})"
            return
        self.kubectl.patch(RUNS, found.name, {"spec": {"suspend": True}})
        yield f"run {found.name} stops at a checkpoint; `{self.command('resume', found.name)}` takes it up again"

    def _stop_endpoint(self, endpoint: ModelEndpoint) -> Iterator[str]:
        name, spec = endpoint.metadata.name, endpoint.spec
        if spec.replicas == 0:
            yield f"endpoint {name} is stopped already"
            return
        before = {"replicas": spec.replicas, "autoscaling": spec.autoscaling and spec.autoscaling.to_document()}
        change = {
            "metadata": {"annotations": {BEFORE_STOP: json.dumps(before)}},
            "spec": {"replicas": 0, "autoscaling": None},
        }
        self.kubectl.patch(ENDPOINTS, name, change)
        yield f"endpoint {name} goes down to no replica; `{self.command('resume', f'endpoint/{name}')}` brings it back"

    def resume(self, name: str) -> Iterator[str]:
        found = self.find(name)
        if isinstance(found, ModelEndpoint):
            yield from self._resume_endpoint(found)
        elif found.spec.suspend:
            self.kubectl.patch(RUNS, found.name, {"spec": {"suspend": False}})
            yield f"run {found.name} goes on from its last checkpoint; `{self.command('watch', found.name)}` shows it"
        elif (found.status or RunStatus()).phase is Phase.FAILED:
            self._annotate(found, RETRY_ANNOTATION)
            yield f"run {found.name} is tried again; `{self.command('watch', found.name)}` shows it"
        else:
            yield f"run {found.name} was not stopped ({(found.status or RunStatus()).phase.value})"

    def _resume_endpoint(self, endpoint: ModelEndpoint) -> Iterator[str]:
        name = endpoint.metadata.name
        if endpoint.spec.replicas != 0:
            yield f"endpoint {name} was not stopped"
            return
        noted = endpoint.metadata.annotations.get(BEFORE_STOP)
        before: dict[str, Any] = json.loads(noted) if noted else {"replicas": 1}
        self.kubectl.patch(ENDPOINTS, name, {"metadata": {"annotations": {BEFORE_STOP: None}}, "spec": before})
        yield f"endpoint {name} starts again; `{self.command('status', f'endpoint/{name}')}` shows it"

    def remove(self, name: str, *, now: bool = False) -> Iterator[str]:
        from slipway.cluster import orphaned_folders

        kind, _, endpoint = name.partition("/")
        if kind == "endpoint" and endpoint:
            if now:
                seen = self.command("ls", "--orphaned")
                raise BadInput(
                    f"--now: an endpoint has no folder; `{seen}` names the runs that are gone whose models it keeps, "
                    "and `slipway rm --now RUN` has one of those go once the endpoint is removed"
                )
            if self._endpoint(endpoint).spec.replicas != 0:
                raise BadInput(f"endpoint {endpoint} serves; stop it first: {self.command('stop', name)}")
            self.kubectl.run("delete", ENDPOINTS, endpoint, "--wait=false")
            yield f"endpoint {endpoint} is removed"
            return
        found = self._get(RUNS, name)
        alive = found if found is not None and "deletionTimestamp" not in found["metadata"] else None
        if (now or alive is None) and (left := self._left_by(name, sure=alive is not None)):
            if alive is not None:
                raise BadInput(self._which(run_of(alive), left))
            if not now:
                remedy = self.command("rm", "--now", name)
                raise BadInput(f"run {name} is removed already; `{remedy}` has the folder that it left go at once")
            yield from self._remove_now(left)
            return
        run = self.run(name)
        self.kubectl.run("delete", RUNS, run.name, "--wait=false")
        live = f"; endpoint {run.status.endpoint.name} stays" if run.status and run.status.endpoint else ""
        yield f"run {run.name} is removed{live}"
        if now:
            yield from self._remove_now(orphaned_folders.read(self.kubectl, name, deleted=run.metadata.uid))
        elif (grace := orphaned_folders.grace(self.kubectl)) not in (None, "0s"):
            seen, remedy = self.command("ls", "--orphaned"), self.command("rm", "--now", folder_of(run))
            yield f"what it left stays for {grace}: `{seen}` shows it, `{remedy}` has it go at once"

    def _left_by(self, name: str, *, sure: bool) -> list[OrphanedFolder]:
        """Returns what runs left that are gone, of one name or in the folder of one.

        Nothing where this user may not see it, and Forbidden where it has to be sure.
        """
        from slipway.cluster import orphaned_folders

        try:
            return orphaned_folders.called(self.kubectl, name)
        except Forbidden:
            if sure:
                raise
            return []

    def _which(self, run: TrainingRun, left: list[OrphanedFolder]) -> str:
        """Says how to tell apart a run that is there and folders that the same name means."""
        own = [self.command("rm", "--now", _told_apart(folder, run)) for folder in left]
        folders = ", ".join(f"`{command}`" for command in own)
        remove, then = self.command("rm", run.name), self.command("rm", "--now", folder_of(run))
        return (
            f"--now {run.name}: the run {run.name} is there, and so is what an earlier one left. {folders} removes "
            f"that alone; `{remove}` removes the run that is there, and `{then}` its folder afterwards"
        )

    def _remove_now(self, left: list[OrphanedFolder]) -> Iterator[str]:
        from slipway.cluster import orphaned_folders

        orphaned_folders.remove_now(self.kubectl, left)
        for folder in left:
            place = f"pvc://{folder.place}" if folder.place else f"the folder of uid {folder.uid}"
            kept = f"; the model in it stays for {folder.kept_by}" if folder.kept_by else ""
            yield f"{place} of run {folder.run} goes at once{kept}"

    def orphaned(self) -> list[OrphanedFolder]:
        from slipway.cluster import orphaned_folders

        return orphaned_folders.read(self.kubectl)

    def reevaluate(self, name: str | None, *, as_json: bool) -> int:
        from slipway.options import Format
        from slipway.screen.printing import document
        from slipway.screen.watching import attend, look_on

        run = self.run(name)
        phase = (run.status or RunStatus()).phase
        if phase is not Phase.HELD:
            raise BadInput(f"run {run.name} is {phase.value}; only a Held run is judged again")
        token = self._annotate(run, REEVALUATE_ANNOTATION)
        self._await_reaction(run.name, token)
        if not as_json:
            return attend(self, run.name)
        seen = look_on(self, run.name, lambda _status, _events: None)
        document((seen.run.status or RunStatus()).to_document(), Format.JSON)
        return seen.exit_code(self)

    def _await_reaction(self, name: str, token: str) -> None:
        """Waits until the operator took up an annotation: until then the run still looks as it did."""
        for document in self.kubectl.watch(RUNS, name):
            status = run_of(document).status or RunStatus()
            if status.phase is not Phase.HELD or (status.evaluation and status.evaluation.reevaluation == token):
                return

    def _annotate(self, run: TrainingRun, annotation: str) -> str:
        token = timestamp(self.clock())
        self.kubectl.patch(RUNS, run.name, {"metadata": {"annotations": {annotation: token}}})
        return token

    def _serving(self, name: str | None) -> ModelEndpoint:
        """Returns the endpoint that serves under that name. Raises BadInput that says what serves."""
        endpoints = {endpoint.metadata.name: endpoint for endpoint in self.endpoints()}
        serving = [one for one, endpoint in endpoints.items() if endpoint.status and endpoint.status.live]
        if name is not None and name not in endpoints and (document := self._get(RUNS, name)) is not None:
            run = run_of(document)
            name = run.status.endpoint.name if run.status and run.status.endpoint else name
        if name is None and len(serving) == 1:
            name = serving[0]
        if name in serving:
            return endpoints[name]
        known = f"these serve: {', '.join(serving)}" if serving else f"nothing serves in {self._where}"
        raise BadInput(f"{name} does not serve; {known}" if name else f"name an endpoint or an address; {known}")

    def _endpoint(self, name: str) -> ModelEndpoint:
        found = self._get(ENDPOINTS, name)
        if found is None:
            known = ", ".join(endpoint.metadata.name for endpoint in self.endpoints()) or "none"
            raise BadInput(f"there is no endpoint {name!r} in {self._where}; there are: {known}")
        return endpoint_of(found)

    def _is_at_work(self, name: str) -> bool:
        document = self._get(RUNS, name)
        if document is None:
            return False
        run = run_of(document)
        phase = (run.status or RunStatus()).phase
        return not (_current(run) and (phase.rests or phase is Phase.SUSPENDED))

    def _get(self, kind: str, name: str) -> dict[str, Any] | None:
        if "/" in name:
            return None
        try:
            return self.kubectl.get(kind, name)
        except NotFound:
            return None

    @property
    def _where(self) -> str:
        also = f", nor in {self.also_searched}" if self.also_searched else ""
        return f"{self.title}{also}"

    def _known(self) -> str:
        runs = ", ".join(run.name for run in self.runs()) or "none"
        endpoints = ", ".join(endpoint.metadata.name for endpoint in self.endpoints()) or "none"
        return f"runs: {runs}; endpoints: {endpoints}"


def _current(run: TrainingRun) -> bool:
    """Whether the status is about the spec as it is now."""
    observed = run.status.observed_generation if run.status else None
    return observed is None or observed == run.metadata.generation


def _readable(parse: Callable[[dict[str, Any]], Any], documents: list[dict[str, Any]]) -> list[Any]:
    """Leaves out what this version cannot read, which is named on stderr: one of them must not hide the others."""
    found: list[Any] = []
    for document in documents:
        try:
            found.append(parse(document))
        except ClusterError as error:
            note(f"slipway: {error}")
    return found
