"""Logs of pods: those of a run's steps, attempt after attempt, and those of an endpoint's versions."""

from __future__ import annotations

import queue
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from slipway.cluster.kubectl import ClusterError, Kubectl, NotFound, Unreachable
from slipway.exit_codes import BadInput
from slipway.screen.printing import note
from slipway.target import LogRequest, Write, check_step, steps_of
from slipway_core.resources import labels
from slipway_core.resources.model_endpoint import ModelEndpoint
from slipway_core.resources.training_run import TrainingRun

INDEX = "batch.kubernetes.io/job-completion-index"
_SECONDS = 1.0
"""Between two looks at which pods there are."""
_PAUSE = 2.0
"""Seconds more before a cluster that was out of reach is asked again."""


@dataclass(frozen=True)
class Source:
    """One pod whose log is shown."""

    pod: str
    container: str
    title: str
    prefix: str
    """Tells its lines from those of others."""
    order: tuple[Any, ...]
    started: bool
    """Whether its container has run, so that there is a log."""
    restarts: int
    """How often its container was started again, each time with a log of its own."""

    @property
    def log(self) -> tuple[str, int]:
        return self.pod, self.restarts


def of_run(run: TrainingRun, pods: Sequence[dict[str, Any]], wanted: LogRequest) -> list[Source]:
    """Returns the pods that were asked for, in the order of the steps; the newest attempt of each where none is."""
    steps = steps_of(run)
    found: dict[str, list[tuple[int, dict[str, Any]]]] = {step: [] for step in steps}
    for pod in pods:
        noted = pod["metadata"].get("labels", {})
        step, attempt = noted.get(labels.STEP), noted.get(labels.ATTEMPT, "")
        if step in found and attempt.isdigit() and wanted.step in (None, step):
            found[step].append((int(attempt), pod))
    sources: list[Source] = []
    for step, attempts in found.items():
        newest = max((number for number, _ in attempts), default=0)
        number = wanted.attempt if wanted.attempt is not None else newest
        chosen = [pod for attempt, pod in attempts if attempt == number]
        indices = {pod["metadata"].get("labels", {}).get(INDEX, "0") for pod in chosen}
        for pod in chosen:
            index = pod["metadata"].get("labels", {}).get(INDEX, "0")
            node = f", pod {index}" if len(indices) > 1 else ""
            order = (steps.index(step), number, int(index), pod["metadata"].get("creationTimestamp", ""))
            prefix = f"{step}-{number}{f'/{index}' if node else ''}"
            title = f"{step}, attempt {number}{node}"
            sources.append(_source(pod, "trainer", title, prefix, order))
    return sorted(sources, key=lambda source: source.order)


def of_endpoint(pods: Sequence[dict[str, Any]]) -> list[Source]:
    """Returns the pods of an endpoint in the order of its versions."""
    sources: list[Source] = []
    for pod in pods:
        version, name = pod["metadata"].get("labels", {}).get(labels.VERSION, "0"), pod["metadata"]["name"]
        order = (int(version) if version.isdigit() else 0, pod["metadata"].get("creationTimestamp", ""), name)
        title, prefix = f"version {version}, pod {name}", f"v{version}/{name.rpartition('-')[2]}"
        sources.append(_source(pod, "server", title, prefix, order))
    return sorted(sources, key=lambda source: source.order)


def _source(pod: Mapping[str, Any], container: str, title: str, prefix: str, order: tuple[Any, ...]) -> Source:
    status, restarts = _status(pod, container), _restarts(pod, container)
    started = bool(status) and ("waiting" not in status.get("state", {}) or restarts > 0)
    return Source(pod["metadata"]["name"], container, title, prefix, order, started, restarts)


def _restarts(pod: Mapping[str, Any], container: str) -> int:
    return _status(pod, container).get("restartCount", 0)


def _status(pod: Mapping[str, Any], container: str) -> Mapping[str, Any]:
    statuses: Sequence[Mapping[str, Any]] = pod.get("status", {}).get("containerStatuses", ())
    return next((status for status in statuses if status["name"] == container), {})


@dataclass
class Copy:
    """Copies the logs of pods to one output."""

    kubectl: Kubectl
    write: Write
    sleep: Callable[[float], None] = time.sleep
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _threads: dict[tuple[str, int], threading.Thread] = field(default_factory=dict[tuple[str, int], threading.Thread])
    _processes: dict[tuple[str, int], subprocess.Popen[bytes]] = field(
        default_factory=dict[tuple[str, int], subprocess.Popen[bytes]]
    )
    _failures: queue.SimpleQueue[Exception] = field(default_factory=queue.SimpleQueue[Exception])

    def run(self, run: TrainingRun, wanted: LogRequest, at_work: Callable[[], bool]) -> None:
        """Copies the logs of a run's steps. Raises BadInput when there are none to copy."""
        check_step(wanted, run)
        chosen = {labels.RUN_UID: run.metadata.uid or ""}

        def sources() -> list[Source]:
            return of_run(run, self.kubectl.list("pods", labels=chosen), wanted)

        if wanted.follow:
            self._follow(sources, at_work)
        elif not self._once(sources()):
            where = f"step {wanted.step} of run {run.name}" if wanted.step else f"run {run.name}"
            raise BadInput(
                f"{where} has no pod with a log: none has started yet, or they are gone; "
                f"`slipway status {run.name} {self.kubectl.options}` says how far it is"
            )

    def endpoint(self, endpoint: ModelEndpoint, wanted: LogRequest) -> None:
        """Copies the logs of an endpoint's servers; followed, until nothing serves any more."""
        name = endpoint.metadata.name
        chosen = {labels.ENDPOINT: labels.label(name), labels.ROLE: "serve"}

        def sources() -> list[Source]:
            return of_endpoint(self.kubectl.list("pods", labels=chosen))

        if wanted.follow:
            self._follow(sources, lambda: bool(sources()))
        elif not self._once(sources()):
            status = f"slipway status endpoint/{name} {self.kubectl.options}"
            raise BadInput(f"endpoint {name} has no pod with a log; `{status}` says how it is")

    def _once(self, sources: list[Source]) -> bool:
        started = [source for source in sources if source.started]
        for source in started:
            if len(started) > 1:
                self.write(f"==> {source.title} <==\n")
            text = self.kubectl.run("logs", source.pod, "--container", source.container, timeout="0")
            self.write(text.decode(errors="replace"))
        return bool(started)

    def _follow(self, sources: Callable[[], list[Source]], at_work: Callable[[], bool]) -> None:
        try:
            while self._look(sources, at_work):
                self.sleep(_SECONDS)
                self._check()
            for thread in self._threads.values():
                while thread.is_alive():
                    thread.join(_SECONDS)
                    self._check()
            self._check()
        finally:
            # Ctrl-C and a pipe that closed end the threads with us, but not what they started.
            for process in list(self._processes.values()):
                process.terminate()

    def _look(self, sources: Callable[[], list[Source]], at_work: Callable[[], bool]) -> bool:
        """Follows the logs that have come since the last look; returns whether more may come."""
        try:
            more = at_work()
            self._begin(sources())
        except Unreachable as error:
            note(f"{error}; still trying")
            self.sleep(_PAUSE)
            return True
        return more

    def _begin(self, sources: list[Source]) -> None:
        for source in sources:
            if source.started and source.log not in self._threads:
                # A daemon: Ctrl-C must not wait for a pod that says nothing.
                thread = threading.Thread(target=self._pipe, args=(source,), daemon=True)
                self._threads[source.log] = thread
                thread.start()

    def _pipe(self, source: Source) -> None:
        try:
            for line in self._lines(source):
                with self._lock:
                    self.write(f"{source.prefix} | {line}")
        except Exception as error:
            # It ends the command, which a thread cannot: nobody reads any more, or the disk is full.
            self._failures.put(error)

    def _check(self) -> None:
        if not self._failures.empty():
            raise self._failures.get()

    def _lines(self, source: Source) -> Iterator[str]:
        """Yields the lines of a pod until its container ends; a connection that breaks is taken up where it was."""
        last = ""
        while True:
            since = [f"--since-time={last}"] if last else []
            # What comes again is told by its stamp until the first newer line. After that stamps say nothing: those of
            # stdout and stderr overtake each other, and a clock may be set back.
            repeated = last
            with self.kubectl.stream(
                "logs", source.pod, "-c", source.container, "-f", "--timestamps", *since
            ) as process:
                self._processes[source.log] = process
                assert process.stdout is not None
                half = b""
                for raw in process.stdout:
                    if not raw.endswith(b"\n"):
                        half = raw
                        break
                    stamp, _, line = raw.decode(errors="replace").partition(" ")
                    if repeated and stamp <= repeated:
                        continue
                    repeated, last = "", stamp
                    yield line
                ended = process.wait() == 0
            if ended or not self._is_running(source):
                if half:
                    yield half.decode(errors="replace").partition(" ")[2] + "\n"
                return
            # A line that was cut off, maybe within its stamp, comes again whole.
            self.sleep(_SECONDS)

    def _is_running(self, source: Source) -> bool:
        """Whether the container still runs whose log that is; one that was started again has another."""
        try:
            pod = self.kubectl.get("pod", source.pod)
        except NotFound:
            return False
        except ClusterError:
            return True  # The API server is away for a moment.
        return pod.get("status", {}).get("phase") == "Running" and _restarts(pod, source.container) == source.restarts
