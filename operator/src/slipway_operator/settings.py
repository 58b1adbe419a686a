"""What the chart tells the operator: one YAML file, read once at the start. Every default is here."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic.alias_generators import to_camel
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from slipway_core.protocol.trust import KEYS_LIMIT, TrustedKey, distinct
from slipway_core.resources.api import Duration, Name, Quantity
from slipway_core.resources.placement import Toleration, reserved
from slipway_operator.pod_templates import PodTemplate


class SettingsError(ValueError):
    """The file cannot be used; the message names the field, its value and what is allowed."""


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, validate_by_name=True)


class Images(_Settings):
    train: str = "slipway-train:dev"
    serve: str = "slipway-serve:dev"
    pull_policy: Literal["IfNotPresent", "Always", "Never"] = "IfNotPresent"
    pull_secrets: tuple[str, ...] = ()


class Workspace(_Settings):
    """The claim `slipway-workspace` that the operator makes in a namespace whose runs name no storage."""

    storage_class: str | None = None
    """The cluster's default class when left out."""
    size: Quantity = "50Gi"
    access_modes: tuple[str, ...] = ("ReadWriteOnce",)


class PodResources(_Settings):
    requests: dict[str, Quantity] = Field(default_factory=dict)
    limits: dict[str, Quantity] = Field(default_factory=dict)


class PodDefaults(_Settings):
    """What the pods of a run or an endpoint get that does not say otherwise, field by field."""

    node_selector: dict[str, str] = Field(default_factory=dict)
    tolerations: tuple[Toleration, ...] = ()
    priority_class_name: str | None = None
    pod_labels: dict[str, str] = Field(default_factory=dict)
    pod_annotations: dict[str, str] = Field(default_factory=dict)
    pod_templates: dict[Name, PodTemplate] = Field(default_factory=dict[Name, PodTemplate])
    """By the name that runs or endpoints pick."""

    @model_validator(mode="after")
    def _leaves_ours_alone(self) -> Self:
        for field, keys in (("podLabels", self.pod_labels), ("podAnnotations", self.pod_annotations)):
            if taken := reserved(keys):
                raise ValueError(
                    f"{field}: {', '.join(taken)} is a key by which Slipway or Kubernetes know a pod; leave it out"
                )
        return self


class Training(PodDefaults):
    accelerator: str | None = None
    """Extended resource of a training pod whose run names none: nvidia.com/gpu."""
    resources: PodResources = PodResources(requests={"cpu": "1", "memory": "2Gi"})
    """Of a pod whose run names none."""
    grace: Duration = "60s"
    """Between SIGTERM and SIGKILL: what a checkpoint takes."""
    shared_memory: Quantity = "1Gi"
    examples: str = "/opt/slipway/examples"
    """Folder of the train image in which a relative file:// URI starts."""


class Serving(PodDefaults):
    resources: PodResources = PodResources(requests={"cpu": "1", "memory": "3Gi"})
    device: Literal["cpu", "cuda"] = "cpu"
    accelerator: str | None = None
    """Extended resource of a serving pod: nvidia.com/gpu; as many as engine.tensorParallel."""
    linger: Duration = "5s"
    """How long a pod that is told to end still answers, so that nothing that is on its way to it is lost."""


class Lease(_Settings):
    """There is no way to do without: an upgrade starts the new operator before the old one has ended."""

    name: str = "slipway-operator"
    namespace: str = "slipway-system"
    """The operator's own."""
    duration_seconds: float = 15
    renew_seconds: float = 5

    @model_validator(mode="after")
    def _renewed_in_time(self) -> Self:
        if self.renew_seconds * 2 > self.duration_seconds:
            raise ValueError(
                f"renewSeconds {self.renew_seconds:g} is more than half of durationSeconds {self.duration_seconds:g}: "
                "a leader must renew the Lease twice before it runs out"
            )
        return self


class Client(_Settings):
    """Limits of the operator's own requests to the API server."""

    qps: float = 200
    burst: int = 400
    workers: int = 32


class Limits(_Settings):
    """How much the operator keeps of one namespace, so that no tenant takes its memory from the others."""

    runs: int = Field(default=1500, ge=1)
    """TrainingRuns; what is beyond is known by its name alone, and says so (condition TooMany)."""
    endpoints: int = Field(default=250, ge=1)
    memory: Quantity = "256Mi"
    """Bytes, estimated: a quarter for its runs, one for its endpoints, half for what belongs to them."""


class Requirement(_Settings):
    key: str
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"]
    values: tuple[str, ...] = ()


class Selector(_Settings):
    """An empty one selects all."""

    match_labels: dict[str, str] = Field(default_factory=dict)
    match_expressions: tuple[Requirement, ...] = ()


class IpBlock(_Settings):
    cidr: str
    but: tuple[str, ...] = Field(default=(), alias="except")


class Peer(_Settings):
    """A peer of a NetworkPolicy."""

    namespace_selector: Selector | None = None
    pod_selector: Selector | None = None
    """Alone: of the operator's own namespace, as in the operator's own policy."""
    ip_block: IpBlock | None = None

    @model_validator(mode="after")
    def _names_somebody(self) -> Self:
        selects = self.namespace_selector is not None or self.pod_selector is not None
        if selects == (self.ip_block is not None):
            raise ValueError("name namespaceSelector, podSelector or both, or ipBlock alone")
        return self

    def manifest(self) -> dict[str, Any]:
        """Returns the peer as the API server keeps it: without fields that say nothing."""
        return self.model_dump(mode="json", by_alias=True, exclude_defaults=True)


class NetworkPolicy(_Settings):
    metrics_from: tuple[Peer, ...] = ()
    """Who reads metrics: an endpoint that answers without a key lets them in beside its own namespace."""


class Retention(_Settings):
    """What becomes of that which a run leaves that is gone."""

    grace: Duration = "24h"
    """How long its folder stays once nothing keeps it. 0s: it goes at once."""
    cleanup_jobs: int = Field(default=4, ge=1)
    """How many folders are removed at the same time, in all namespaces."""


class Signing(_Settings):
    """Where the operator keeps the key by which it signs verdicts."""

    secret: str = "slipway-operator-signing-key"
    """Secret that has it; the operator makes it, and nobody else needs it."""
    keys: str = "slipway-operator-trusted-keys"
    """ConfigMap that has its public half, and all keys that are trusted, for whoever wants to verify."""
    namespace: str = "slipway-system"
    """The operator's own."""


class Settings(_Settings):
    images: Images = Images()
    workspace: Workspace = Workspace()
    training: Training = Training()
    serving: Serving = Serving()
    lease: Lease = Lease()
    client: Client = Client()
    limits: Limits = Limits()
    network_policy: NetworkPolicy = NetworkPolicy()
    retention: Retention = Retention()
    admission_policies: bool = False
    """Whether the chart's policies hold, without which anybody could write an approval: `promotion.mode: Approval` is
    refused then."""
    signing: Signing = Signing()
    trusted_keys: tuple[TrustedKey, ...] = Field(default=(), max_length=KEYS_LIMIT - 1)
    """Keys that may have signed a verdict beside the operator's own, and which of them are retired or revoked."""
    watch_namespaces: tuple[str, ...] = ()
    """Empty: all."""
    port: int = 8080
    """/healthz, /readyz and /metrics."""
    pod_url: str = "http://{ip}:{port}"
    """How a pod is reached. Tests without a node put a stand-in there; it may use {namespace}, {pod}, {ip}, {port}."""
    resync: Duration = "10m"
    """Between two lists of everything, which find what no event told."""
    progress_seconds: float = 10
    """Between two writes of a run's progress at the least."""
    node_lost_seconds: float = 60
    """How long a pod may stay Terminating beyond its grace period until the condition NodeLost says so."""
    backoff: Duration = "10s"
    longest_backoff: Duration = "5m"
    give_way_after: Duration = "10m"
    """How long a run over several nodes may hold places for some of its pods while others find none and an older run
    waits in the same way; without one it has twice as long."""

    @field_validator("trusted_keys")
    @classmethod
    def _told_apart(cls, keys: tuple[TrustedKey, ...]) -> tuple[TrustedKey, ...]:
        return distinct(keys)


def load(path: Path | None) -> Settings:
    """Reads the file; None gives the defaults. Raises SettingsError."""
    if path is None:
        return Settings()
    try:
        text = path.read_text(encoding="utf-8")
        document: Any = YAML(typ="safe", pure=True).load(text) or {}  # pyright: ignore[reportUnknownMemberType]
        return Settings.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise SettingsError(f"{path}: {field}: {first['msg']}, found {first['input']!r}") from None
    except (OSError, YAMLError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: {error}") from None
