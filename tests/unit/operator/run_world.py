"""A run on an API server in memory, with hands that do what the Job controller, kubelet and endpoint would do."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.unit.operator.fake_cluster import FakeCluster
from tests.unit.operator.kube_objects import a_result

from slipway_core.resources.conditions import timestamp
from slipway_core.resources.status import Progress
from slipway_operator import names
from slipway_operator.common.large_objects import LargeObjects
from slipway_operator.common.signing_keys import SigningKeys
from slipway_operator.common.verdict_reader import VerdictReader
from slipway_operator.endpoints.standings import Standings
from slipway_operator.kube import kinds
from slipway_operator.kube.errors import Conflict
from slipway_operator.runs.reconcile import RunReconciler
from slipway_operator.settings import Retention, Settings

DIGEST = "sha256:" + "a" * 64
Manifest = dict[str, Any]


@dataclass
class FakePods:
    said: Progress | None = None

    async def progress(self, pod: Manifest) -> Progress | None:
        return self.said


class NoMetrics:
    def __getattr__(self, name: str):
        return lambda *args, **kwargs: None


@dataclass
class RunWorld:
    name: str = "demo"
    spec: Manifest = field(default_factory=dict)
    settings: Settings = field(default_factory=lambda: Settings(retention=Retention(grace="0s")))
    """What deleted runs leave goes at once, unless a test is about its grace."""
    cluster: FakeCluster = field(default_factory=FakeCluster)
    now: datetime = datetime(2026, 1, 1, 12, tzinfo=UTC)
    pods: FakePods = field(default_factory=FakePods)

    def __post_init__(self) -> None:
        self.cluster.clock = lambda: self.now
        self.start_operator()
        self.create(self.name)

    def reader(self) -> VerdictReader:
        """Of a new operator process, with its keys."""
        cluster: Any = self.cluster
        keys = SigningKeys(cluster, cluster.world, self.settings, lambda: self.now)
        return VerdictReader(cluster, cluster.world, keys)

    def standings(self) -> Standings:
        """Of a new operator process too."""
        reader = self.reader()
        return Standings(reader.cluster, reader.world, reader, reader.keys)

    def start_operator(self) -> None:
        """A new operator process: nothing but the cluster is remembered."""
        cluster: Any = self.cluster
        reader = self.reader()
        self.reconciler = RunReconciler(
            cluster,
            self.cluster.world,
            self.settings,
            self.pods,  # type: ignore[arg-type]
            NoMetrics(),  # type: ignore[arg-type]
            lambda: self.now,
            reader,
            reader.keys,
            LargeObjects(),
            lambda: self.now.timestamp(),
        )

    def create(self, name: str) -> None:
        spec = {
            "model": {"scratch": {"tokenizer": {"train": {"vocabSize": 512}}}},
            "stages": [{"name": "learn", "data": {"train": [{"uri": "package://tang"}]}}],
            "evaluation": {
                "data": [{"uri": "package://tang-held-out"}],
                "gates": [{"metric": "perplexity", "max": 20, "minTokens": 100, "confidence": 0.5}],
            },
            "serving": {"endpoint": "chat"},
            **self.spec,
        }
        manifest = {
            "apiVersion": "slipway.dev/v1alpha1",
            "kind": "TrainingRun",
            "metadata": {"name": name},
            "spec": spec,
        }
        self.cluster.put(manifest)

    def edit(self, **spec: Any) -> None:
        manifest = self.run
        self.cluster.put({**manifest, "spec": {**manifest["spec"], **spec}})

    def annotate(self, **notes: str) -> None:
        manifest = self.run
        own = {f"slipway.dev/{name}": value for name, value in notes.items()}
        metadata = {**manifest["metadata"], "annotations": {**manifest["metadata"].get("annotations", {}), **own}}
        self.cluster.put({**manifest, "metadata": metadata})

    def reconcile(self, name: str | None = None) -> timedelta | None:
        return asyncio.run(self.reconciler.reconcile("default", name or self.name))

    def settle(self, passes: int = 6) -> None:
        """Passes until one changes nothing."""
        for _ in range(passes):
            before = len(self.cluster.writes)
            self.reconcile()
            if len(self.cluster.writes) == before:
                return
        raise AssertionError(f"still writing after {passes} passes: {self.cluster.writes[-6:]}")

    def persist(self) -> None:
        """Settles as the workers do, which repeat a pass that raises Conflict."""
        for _ in range(6):
            try:
                return self.settle()
            except Conflict:
                continue
        raise AssertionError("there is a conflict in every pass")

    @property
    def run(self) -> Manifest:
        return self.cluster.one(kinds.TRAINING_RUN, self.name)

    @property
    def uid(self) -> str:
        return self.run["metadata"]["uid"]

    @property
    def phase(self) -> str:
        return self.run["status"]["phase"]

    def record(self, step: str) -> Manifest:
        return next(stage for stage in self.run["status"]["stages"] if stage["name"] == step)

    def condition(self, type_: str) -> Manifest | None:
        return next((c for c in self.run["status"]["conditions"] if c["type"] == type_), None)

    def jobs(self, step: str | None = None) -> list[Manifest]:
        found = [job for job in self.cluster.all(kinds.JOB) if job["metadata"]["labels"].get(names.RUN) == self.name]
        return [job for job in found if step in (None, job["metadata"]["labels"].get(names.STEP))]

    def job(self, step: str) -> Manifest:
        return max(self.jobs(step), key=lambda job: int(job["metadata"]["labels"][names.ATTEMPT]))

    def pod_of(self, job: Manifest, index: int = 0, **status: Any) -> Manifest:
        metadata = {
            "name": f"{job['metadata']['name']}-{index}-abcde",
            "labels": job["metadata"]["labels"],
            "annotations": {"batch.kubernetes.io/job-completion-index": str(index)},
            "ownerReferences": [
                {"kind": "Job", "name": job["metadata"]["name"], "uid": job["metadata"]["uid"], "controller": True}
            ],
        }
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": metadata,
            "spec": {},
            "status": {"phase": "Running", **status},
        }
        return self.cluster.put(pod)

    def end(self, step: str, code: int = 0, result: Manifest | str | None = None, **terminated: Any) -> None:
        """The newest attempt of a step ends with this exit code and this last word."""
        job = self.job(step)
        attempt = int(job["metadata"]["labels"][names.ATTEMPT])
        word = result if isinstance(result, str) else json.dumps(a_result(step, attempt, **(result or {})))
        state = {"terminated": {"exitCode": code, "message": word, "finishedAt": timestamp(self.now), **terminated}}
        phase = "Failed" if code else "Succeeded"
        self.pod_of(job, phase=phase, containerStatuses=[{"name": "trainer", "state": state}])
        condition = {"type": "Failed" if code else "Complete", "status": "True", "reason": "R"}
        self.cluster.set_status(kinds.JOB, "default", job["metadata"]["name"], {"conditions": [condition]})

    def judgements(self) -> list[Manifest]:
        """The records of what was judged, in the order in which they were made."""
        return [one for one in self.cluster.all(kinds.CONFIG_MAP) if "statement" in one["data"]]

    def loses(self, step: str) -> None:
        """The Jobs and pods of a step go, as by a drain and somebody who tidies up."""
        for kind in (kinds.JOB, kinds.POD):
            for found in self.cluster.all(kind):
                if found["metadata"]["labels"].get(names.STEP) == step:
                    self.cluster.remove(kind, "default", found["metadata"]["name"])

    def train(self) -> None:
        """Up to the evaluation."""
        self.settle()
        self.end("prepare")
        self.settle()
        self.train_on()

    def train_on(self) -> None:
        """From the training up to the evaluation."""
        self.end("learn")
        self.settle()
        uri = f"file:///workspace/{names.run_folder(self.name, self.uid)}/artifact"
        self.end("export", result={"artifact": {"uri": uri, "digest": DIGEST}})
        self.settle()

    def evaluate(self, perplexity: float = 10.0) -> None:
        self.end_evaluation(perplexity)
        self.settle()

    def end_evaluation(self, perplexity: float = 10.0) -> None:
        number = int(self.job("evaluate")["metadata"]["labels"][names.ATTEMPT])
        evaluation = {"number": number, "artifactDigest": DIGEST, "scoredTokens": 1000}
        self.end("evaluate", result={"metrics": {"perplexity": perplexity}, "evaluation": evaluation})

    def serve(self) -> None:
        """The endpoint takes up what it was told."""
        endpoint = self.cluster.one(kinds.MODEL_ENDPOINT, "chat")
        model, notes = endpoint["spec"]["model"], endpoint["metadata"].get("annotations", {})
        version = {
            "version": 1,
            "uri": model["uri"],
            "digest": model["digest"],
            "run": model.get("run"),
            "state": "Live",
        }
        status = {
            "observedGeneration": endpoint["metadata"]["generation"],
            "phase": "Serving",
            "live": {**version, "since": timestamp(self.now)},
            "url": "http://chat.default.svc:8000",
        }
        retry = notes.get("slipway.dev/retry")
        status |= {"retry": retry} if retry else {}
        self.cluster.set_status(kinds.MODEL_ENDPOINT, "default", "chat", status)
        self.settle()
