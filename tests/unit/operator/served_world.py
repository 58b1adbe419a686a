"""An endpoint on an API server in memory, with hands that do what controllers and kubelet would do."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.unit.core.statements import KEY, judgement
from tests.unit.operator.fake_cluster import FakeCluster

from slipway_core.protocol import envelope
from slipway_core.protocol.signing import SigningKey
from slipway_core.protocol.statement import JudgedRun, Statement
from slipway_core.protocol.trust import TrustedKey
from slipway_core.resources.conditions import timestamp
from slipway_core.resources.status import ArtifactStatus, EvaluationStatus, Verdict
from slipway_core.rollout.revision import revision_of
from slipway_operator import names
from slipway_operator.common.large_objects import LargeObjects
from slipway_operator.common.signing_keys import SigningKeys
from slipway_operator.common.verdict_reader import VerdictReader
from slipway_operator.endpoints.reconcile import EndpointReconciler
from slipway_operator.kube import kinds, resources
from slipway_operator.manifests.endpoint.service import routed_version
from slipway_operator.manifests.run.verdict_config_map import verdict_config_map
from slipway_operator.manifests.signing_key import trusted_keys
from slipway_operator.settings import Settings

NAMESPACE, NAME = "default", "chat"
Manifest = dict[str, Any]


def digest(letter: str) -> str:
    return "sha256:" + letter * 64


@dataclass
class FakePods:
    """Answers of servers, by the version that the pod is of; a version that is not in it has not answered yet."""

    said: dict[int, tuple[bool | None, str, bool | None]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    async def answers(self, pod: Manifest) -> tuple[bool | None, str, bool | None]:
        self.asked.append(pod["metadata"]["name"])
        return self.said.get(int(pod["metadata"]["labels"][names.VERSION]), (None, "", None))


@dataclass
class FakeMetrics:
    live_after: list[float] = field(default_factory=list)

    def gate_to_live(self, seconds: float) -> None:
        self.live_after.append(seconds)


@dataclass
class ServedWorld:
    cluster: FakeCluster = field(default_factory=FakeCluster)
    settings: Settings = field(default_factory=Settings)
    now: datetime = datetime(2026, 1, 1, 12, tzinfo=UTC)
    pods: FakePods = field(default_factory=FakePods)
    metrics: FakeMetrics = field(default_factory=FakeMetrics)

    def __post_init__(self) -> None:
        self.cluster.clock = lambda: self.now
        own = TrustedKey.of(KEY.public)
        told = own.model_copy(update={"own": True})
        self.cluster.put(trusted_keys([own], [told], self.settings.signing))
        self.start_operator()

    def start_operator(self) -> None:
        """A new operator process: nothing but the cluster is remembered."""
        cluster: Any = self.cluster
        keys = SigningKeys(cluster, cluster.world, self.settings, lambda: self.now)
        self.reconciler = EndpointReconciler(
            cluster,
            self.cluster.world,
            self.settings,
            self.pods,
            self.metrics,  # type: ignore[arg-type]
            lambda: self.now,
            VerdictReader(cluster, cluster.world, keys),
            keys,
            LargeObjects(),
            lambda: self.now.timestamp(),
        )

    # ------------------------------------------------------------------------------------------- what people do

    def serve(self, model: str = "a", **spec: Any) -> None:
        """Asks for the model of that letter, with the settings that are given and no others."""
        accept = {"acceptUnjudged": True} if spec.pop("unjudged", False) else {}
        secret = {"credentials": spec.pop("credentials")} if "credentials" in spec else {}
        served = {"uri": spec.pop("uri", f"pvc://models/{model}"), "digest": digest(model), **accept, **secret}
        there = self.cluster.objects.get((kinds.MODEL_ENDPOINT.kind, NAMESPACE, NAME), {})
        self.cluster.put(
            {
                "apiVersion": "slipway.dev/v1alpha1",
                "kind": "ModelEndpoint",
                "metadata": {"name": NAME, **there.get("metadata", {})},
                "spec": {"access": {"anonymous": True}, **spec, "model": served},
                **({"status": there["status"]} if "status" in there else {}),
            }
        )

    def annotate(self, **notes: str) -> None:
        endpoint = self.endpoint
        own = {f"slipway.dev/{name}": value for name, value in notes.items()}
        self.cluster.put({**endpoint, "metadata": {**endpoint["metadata"], "annotations": own}})

    def passes(self, *models: str) -> None:
        """A run's gate lets these models through now."""
        for model in models:
            self.judged(model)
            self.signed(model)

    def judged(self, model: str, verdict: str = "Pass") -> None:
        """A run says so in its status, which nobody but the operator writes."""
        evaluation = {"number": 1, "verdict": verdict, "artifactDigest": digest(model), "parityDigest": digest("e")}
        artifact = {"uri": f"pvc://models/run-{model}/artifact", "digest": digest(model)}
        run = {"apiVersion": "slipway.dev/v1alpha1", "kind": "TrainingRun", "metadata": {"name": f"run-{model}"}}
        self.cluster.put({**run, "spec": {}, "status": {"evaluation": evaluation, "artifact": artifact}})

    def before_signing(self, model: str = "a") -> None:
        """Version 1 with this model is live as a release left it that signed none."""
        self.vouched(model)
        self.serve(model)
        asked = resources.endpoint(self.endpoint).spec
        assert asked.model is not None
        version = {
            "version": 1,
            "uri": f"pvc://models/{model}",
            "digest": digest(model),
            "revision": revision_of(asked.model, asked),
            "state": "Live",
            "since": timestamp(self.now - timedelta(hours=1)),
        }
        self.cluster.set_status(kinds.MODEL_ENDPOINT, NAMESPACE, NAME, {"phase": "Serving", "live": version})
        self.settle()
        self.becomes_ready(1)
        self.settle()

    def signed(
        self,
        model: str,
        verdict: Verdict = Verdict.PASS,
        *,
        key: SigningKey = KEY,
        number: int = 1,
        run: str | None = None,
        namespace: str = NAMESPACE,
        **says: Any,
    ) -> Manifest:
        """There is a signed statement on a model: of a run `run-<model>` unless another one is named."""
        about, name = digest(model), run or f"run-{model}"
        evaluation = EvaluationStatus(number=number, verdict=verdict, artifact_digest=about, parity_digest=digest("e"))
        said = Statement.about(
            about,
            judgement(
                verdict,
                run=JudgedRun(name=name, uid=f"{name}-0123", namespace=namespace),
                evaluation=number,
                judged_at=timestamp(self.now),
                parity=digest("e"),
                **says,
            ),
        )
        artifact = ArtifactStatus(uri=f"pvc://models/{name}/artifact", digest=about)
        sealed = envelope.seal(said, key)
        manifest = verdict_config_map(NAMESPACE, evaluation, artifact, statement=said, sealed=sealed, endpoint=NAME)
        return self.cluster.put(manifest)

    def vouched(self, *models: str) -> None:
        """There is a record of a verdict as releases wrote it that signed none, whoever made it."""
        for model in models:
            manifest = {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": names.verdict(digest(model))},
                "data": {
                    "digest": digest(model),
                    "verdict": "Pass",
                    "judgedAt": timestamp(self.now),
                    "parityUri": f"pvc://models/run-{model}/evaluation/1/parity.json",
                    "parityDigest": digest("e"),
                },
            }
            self.cluster.put(manifest)

    def wait(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    # -------------------------------------------------------------------------------- what the cluster does

    def pod_of(
        self, version: int, index: int = 0, *, ready: bool = False, placed: bool = True, **status: Any
    ) -> Manifest:
        """A pod of a version, with a server that runs unless told otherwise."""
        name = f"{names.version(NAME, version)}-abc-{index}"
        old = self.cluster.objects.get((kinds.POD.kind, NAMESPACE, name), {})
        began = old.get("metadata", {}).get("creationTimestamp", timestamp(self.now))
        conditions = [{"type": "Ready", "status": str(ready), "lastTransitionTime": timestamp(self.now)}]
        scheduled = {"type": "PodScheduled", "status": str(placed), "lastTransitionTime": began}
        running = [{"name": "server", "image": "i", "state": {"running": {"startedAt": began}}}] if placed else []
        base = {"phase": "Running" if placed else "Pending", "podIP": "10.0.0.1", "containerStatuses": running}
        extra = status.pop("conditions", [])
        return self.cluster.put(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": name, "labels": names.version_labels(NAME, version)},
                "spec": {"containers": [{"name": "server"}]},
                "status": {**base, **status, "conditions": [*conditions, *(extra or [scheduled])]},
            }
        )

    def becomes_ready(self, version: int) -> None:
        deployment = self.deployment(version)
        replicas = deployment["spec"]["replicas"]
        for index in range(replicas):
            self.pod_of(version, index, ready=True)
        status = {
            "observedGeneration": deployment["metadata"]["generation"],
            "availableReplicas": replicas,
            "conditions": [{"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable"}],
        }
        self.cluster.set_status(kinds.DEPLOYMENT, NAMESPACE, deployment["metadata"]["name"], status)

    def answers(self, version: int) -> None:
        self.pods.said[version] = (True, "", True)

    def ends(self, version: int, code: int, said: str = "", times: int = 1, **terminated: Any) -> None:
        """The server of a version's pod ended, for the first time or once more."""
        ended = {"exitCode": code, "message": said, "startedAt": timestamp(self.now), **terminated}
        own = {"name": "server", "image": "i", "restartCount": times - 1, "state": {"terminated": ended}}
        self.pod_of(version, containerStatuses=[own])

    def backs_off(self, version: int, code: int, said: str = "", times: int = 1) -> None:
        """The kubelet waits before it starts a server again: its number stays that of the container that ended."""
        state = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 20s restarting failed container"}}
        self._after_end(version, times - 1, state, code, said)

    def is_started_again(self, version: int, code: int, said: str = "", times: int = 1) -> None:
        """After so many ends."""
        self._after_end(version, times, {"running": {"startedAt": timestamp(self.now)}}, code, said)

    def _after_end(self, version: int, number: int, state: Manifest, code: int, said: str) -> None:
        last = {"terminated": {"exitCode": code, "message": said, "startedAt": timestamp(self.now)}}
        own = {"name": "server", "image": "i", "restartCount": number, "state": state, "lastState": last}
        self.pod_of(version, containerStatuses=[own])

    def has_no_place(self, version: int, message: str = "0/1 nodes are available: 1 Insufficient memory.") -> None:
        unplaced = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
        self.pod_of(version, placed=False, conditions=[unplaced])

    def pods_are_gone(self, version: int) -> None:
        for pod in self.cluster.all(kinds.POD):
            if pod["metadata"]["labels"][names.VERSION] == str(version):
                self.cluster.remove(kinds.POD, NAMESPACE, pod["metadata"]["name"])

    # ----------------------------------------------------------------------------------------------- passes

    def reconcile(self) -> timedelta | None:
        return asyncio.run(self.reconciler.reconcile(NAMESPACE, NAME))

    def settle(self, passes: int = 8) -> timedelta | None:
        """Passes until one changes nothing."""
        for _ in range(passes):
            before = len(self.cluster.writes)
            again = self.reconcile()
            if len(self.cluster.writes) == before and again != timedelta(0):
                return again
        raise AssertionError(f"still writing after {passes} passes: {self.cluster.writes[-6:]}")

    def goes_live(self, version: int = 1) -> None:
        """From a candidate to the version with the traffic, with its probation behind it."""
        self.settle()
        self.becomes_ready(version)
        self.answers(version)
        self.settle()
        self.wait(31)
        self.settle()
        assert self.live == version

    # ------------------------------------------------------------------------------------------------ looks

    @property
    def endpoint(self) -> Manifest:
        return self.cluster.one(kinds.MODEL_ENDPOINT, NAME)

    @property
    def status(self) -> Manifest:
        return self.endpoint["status"]

    @property
    def live(self) -> int | None:
        return self.status.get("live", {}).get("version")

    @property
    def candidate(self) -> int | None:
        return self.status.get("candidate", {}).get("version")

    @property
    def route(self) -> int | None:
        return routed_version(self.cluster.one(kinds.SERVICE, NAME))

    def condition(self, type_: str) -> Manifest | None:
        return next((c for c in self.status["conditions"] if c["type"] == type_), None)

    def remembered(self, version: int) -> Manifest:
        return next(v for v in self.status["history"] if v["version"] == version)

    def deployment(self, version: int) -> Manifest:
        return self.cluster.one(kinds.DEPLOYMENT, names.version(NAME, version))

    def deployed(self) -> list[int]:
        return sorted(int(d["metadata"]["labels"][names.VERSION]) for d in self.cluster.all(kinds.DEPLOYMENT))
