"""What tests say of runs and endpoints on a cluster, as sentences: apply one, wait for a phase, take hold of a pod."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

from tests.integration.api_client import ApiClient, Manifest, eventually
from tests.integration.operator.pod_hands import PodHands

from slipway_operator import names
from slipway_operator.kube.kinds import (
    CONFIG_MAP,
    DEPLOYMENT,
    EVENT,
    JOB,
    MODEL_ENDPOINT,
    POD,
    SERVICE,
    TRAINING_RUN,
    Kind,
)

SPEC: Manifest = {
    "model": {"scratch": {"tokenizer": {"train": {"vocabSize": 512}}}},
    "stages": [{"name": "learn", "data": {"train": [{"uri": "package://tang"}]}}],
    "evaluation": {
        "data": [{"uri": "package://tang-held-out"}],
        "gates": [{"metric": "perplexity", "max": 20, "minTokens": 100, "confidence": 0.5}],
    },
}
"""One stage `learn` and a gate that the pods of kwok/stages.yaml pass."""
STEPS = ("prepare", "learn", "export", "evaluate")


@dataclass(frozen=True)
class Runs:
    """The runs of one namespace."""

    api: ApiClient
    namespace: str

    def apply(self, name: str, *, endpoint: str | None = "chat", template: Manifest | None = None, **spec: Any) -> Run:
        """Creates a run that promotes to an endpoint with a short probation; None gives it no serving."""
        whole = copy.deepcopy({**SPEC, **spec})
        if endpoint is not None:
            rollout = {"rollout": {"probation": "1s", "drain": "1s"}}
            whole["serving"] = {"endpoint": endpoint, "template": {**rollout, **(template or {})}}
        manifest = {
            "apiVersion": "slipway.dev/v1alpha1",
            "kind": "TrainingRun",
            "metadata": {"name": name},
            "spec": whole,
        }
        made = self.api.create(manifest, self.namespace)
        return Run(self.api, self.namespace, name, made["metadata"]["uid"])

    def endpoint(self, name: str = "chat") -> Endpoint:
        return Endpoint(self.api, self.namespace, name)


@dataclass(frozen=True)
class Run:
    api: ApiClient
    namespace: str
    name: str
    uid: str

    @property
    def manifest(self) -> Manifest:
        found = self.api.get(TRAINING_RUN, self.namespace, self.name)
        assert found is not None, f"there is no run {self.name}"
        return found

    @property
    def status(self) -> Manifest:
        return self.manifest.get("status") or {}

    @property
    def phase(self) -> str:
        return self.status.get("phase", "")

    def record(self, step: str) -> Manifest:
        return next((one for one in self.status.get("stages", []) if one["name"] == step), {})

    def condition(self, type_: str) -> Manifest:
        return next((one for one in self.status.get("conditions", []) if one["type"] == type_), {})

    def reaches(self, phase: str, seconds: float = 30) -> Manifest:
        """Waits for a phase. Returns the status."""
        try:
            eventually(lambda: self.phase == phase, phase, seconds)
        except AssertionError:
            endpoints = [one.get("status") for one in self.api.list(MODEL_ENDPOINT, self.namespace)]
            told = f"{self.name} is {self.phase} and not {phase}: {self.status}; endpoints: {endpoints}"
            raise AssertionError(told) from None
        return self.status

    def shows(self, condition: str, reason: str, status: str = "True", seconds: float = 30) -> str:
        """Waits for a condition. Returns its message."""

        def shown() -> bool:
            found = self.condition(condition)
            return (found.get("status"), found.get("reason")) == (status, reason)

        try:
            eventually(shown, condition, seconds)
        except AssertionError:
            raise AssertionError(f"{self.name} has no {condition} {status} {reason}: {self.status}") from None
        return self.condition(condition)["message"]

    def loses(self, condition: str, seconds: float = 30) -> None:
        eventually(lambda: not self.condition(condition), f"{condition} of {self.name} is gone", seconds)

    def jobs(self, step: str | None = None) -> list[Manifest]:
        selector = f"{names.RUN_UID}={self.uid},{names.STEP}{f'={step}' if step else ''}"
        return self.api.list(JOB, self.namespace, selector)

    def pod(self, step: str, attempt: int = 1, index: int = 0, seconds: float = 30) -> PodHands:
        """Waits for the pod of an attempt."""
        selector = f"{names.RUN_UID}={self.uid},{names.STEP}={step},{names.ATTEMPT}={attempt}"

        def found() -> Manifest | None:
            pods = self.api.list(POD, self.namespace, selector)
            own = "batch.kubernetes.io/job-completion-index"
            return next((pod for pod in pods if pod["metadata"]["annotations"].get(own) == str(index)), None)

        return PodHands(self.api, eventually(found, f"pod {index} of {step}, attempt {attempt}", seconds))

    def annotate(self, name: str, value: str) -> None:
        notes = {"metadata": {"annotations": {f"slipway.dev/{name}": value}}}
        self.api.merge(TRAINING_RUN, self.namespace, self.name, notes)

    def edit(self, **spec: Any) -> None:
        self.api.merge(TRAINING_RUN, self.namespace, self.name, {"spec": spec})

    def delete(self) -> None:
        self.api.delete(TRAINING_RUN, self.namespace, self.name)

    def events(self) -> list[Manifest]:
        found = self.api.list(EVENT, self.namespace)
        return [event for event in found if event["involvedObject"].get("uid") == self.uid]


@dataclass(frozen=True)
class Endpoint:
    api: ApiClient
    namespace: str
    name: str

    @property
    def manifest(self) -> Manifest:
        return self.api.get(MODEL_ENDPOINT, self.namespace, self.name) or {}

    @property
    def status(self) -> Manifest:
        return self.manifest.get("status") or {}

    @property
    def live(self) -> Manifest:
        return self.status.get("live") or {}

    def apply(self, **spec: Any) -> None:
        """Makes the endpoint by hand, or edits it."""
        manifest = {
            "apiVersion": "slipway.dev/v1alpha1",
            "kind": "ModelEndpoint",
            "metadata": {"name": self.name},
            "spec": spec,
        }
        self.api.apply(manifest, self.namespace)

    def edit(self, **spec: Any) -> None:
        self.api.merge(MODEL_ENDPOINT, self.namespace, self.name, {"spec": spec})

    def annotate(self, name: str, value: str) -> None:
        notes = {"metadata": {"annotations": {f"slipway.dev/{name}": value}}}
        self.api.merge(MODEL_ENDPOINT, self.namespace, self.name, notes)

    def reaches(self, phase: str, *, version: int | None = None, seconds: float = 30) -> Manifest:
        """Waits for a phase, and for a version to be live. Returns the status."""

        def there() -> bool:
            status = self.status
            return status.get("phase") == phase and (
                version is None or (status.get("live") or {}).get("version") == version
            )

        try:
            eventually(there, phase, seconds)
        except AssertionError:
            raise AssertionError(f"{self.name} is not {phase} with version {version}: {self.status}") from None
        return self.status

    def shows(self, condition: str, reason: str, status: str = "True", seconds: float = 30) -> str:
        def shown() -> Manifest | None:
            own = self.status.get("conditions", [])
            found = (one for one in own if (one["type"], one["status"], one["reason"]) == (condition, status, reason))
            return next(found, None)

        try:
            return eventually(shown, condition, seconds)["message"]
        except AssertionError:
            raise AssertionError(f"{self.name} has no {condition} {status} {reason}: {self.status}") from None

    def in_history(self, version: int, state: str, seconds: float = 30) -> Manifest:
        """Waits for a version to be in that state in the history."""

        def found() -> Manifest | None:
            own = self.status.get("history", [])
            return next((one for one in own if (one["version"], one["state"]) == (version, state)), None)

        try:
            return eventually(found, f"version {version} is {state}", seconds)
        except AssertionError:
            raise AssertionError(f"version {version} of {self.name} is not {state}: {self.status}") from None

    @property
    def routed(self) -> str | None:
        """The version that its Service selects."""
        service = self.api.get(SERVICE, self.namespace, names.service(self.name)) or {}
        return service.get("spec", {}).get("selector", {}).get(names.VERSION)

    @property
    def versions(self) -> list[str]:
        """The versions that have a Deployment."""
        return sorted(one["metadata"]["labels"][names.VERSION] for one in self._own(DEPLOYMENT))

    def pod(self, version: int, seconds: float = 30) -> PodHands:
        def found() -> Manifest | None:
            pods = self.api.list(
                POD, self.namespace, f"{names.ENDPOINT}={names.label(self.name)},{names.VERSION}={version}"
            )
            return next(iter(pods), None)

        return PodHands(self.api, eventually(found, f"a pod of version {version}", seconds))

    def _own(self, kind: Kind) -> list[Manifest]:
        return self.api.list(kind, self.namespace, f"{names.ENDPOINT}={names.label(self.name)}")


def verdicts(api: ApiClient, namespace: str) -> list[Manifest]:
    return api.list(CONFIG_MAP, namespace, f"{names.ROLE}=verdict")
