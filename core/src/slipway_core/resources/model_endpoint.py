"""The resource ModelEndpoint: one address behind which judged models take turns."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from slipway_core.resources import placement
from slipway_core.resources.api import Api, Digest, Duration, Name, Quantity, Rule, ShortText, Uri
from slipway_core.resources.compute import Resources
from slipway_core.resources.metadata import Metadata
from slipway_core.resources.placement import NodeSelector, PodAnnotations, PodLabels, TemplateName, Tolerations
from slipway_core.resources.promotion import Promotion
from slipway_core.resources.status import EndpointStatus


class ServedModel(Api):
    """What is served. A run that passed writes it; a hand-made one needs a verdict, or acceptUnjudged."""

    uri: Uri
    """Where the artifact is: pvc://claim/path, s3://, gs:// or hf://."""
    digest: Digest
    """Digest of the artifact's manifest; what is served is verified against it."""
    run: Name | None = None
    """The run that made it."""
    credentials: ShortText | None = None
    """Secret with the key `token` (hf), AWS variables (s3) or GOOGLE_SERVICE_ACCOUNT_KEY (gs), for whatever fetches the
    model: its server, and a run that compares with it. Another Secret is another version."""
    accept_unjudged: bool = False
    """Serve a model without a passing verdict; a condition shows it for ever."""


class Autoscaling(Api):
    """Follows the load with the number of replicas, by a HorizontalPodAutoscaler."""

    rules: ClassVar = (
        Rule(
            "(has(self.minReplicas) ? self.minReplicas : 1) <= self.maxReplicas",
            "minReplicas must not be above maxReplicas",
            lambda self: self.min_replicas <= self.max_replicas,
        ),
    )

    min_replicas: int = Field(default=1, ge=1, le=1000)
    max_replicas: int = Field(ge=1, le=1000)
    """Replicas at most."""
    target_cpu_percent: int = Field(default=80, ge=1, le=100)


class Engine(Api):
    """How vLLM runs the model."""

    max_model_length: int | None = Field(default=None, ge=16)
    """Longest prompt and answer together, in tokens; the model's own limit when left out."""
    dtype: Literal["Auto", "BF16", "FP16", "FP32"] = "Auto"
    """Auto: BF16 on a GPU, FP32 on a CPU."""
    tensor_parallel: int = Field(default=1, ge=1, le=64)
    """GPUs over which a replica is split."""
    gpu_memory_utilization: float = Field(default=0.9, gt=0, le=1)
    kv_cache: Quantity | None = None
    """Memory for keys and values on a CPU; 1Gi when left out."""


class Access(Api):
    """Who may ask the endpoint."""

    rules: ClassVar = (
        Rule(
            "!(has(self.anonymous) && self.anonymous && (has(self.keysSecret) || has(self.keysFile)))",
            "set anonymous or keys, not both",
            lambda self: not (self.anonymous and (self.keys_secret or self.keys_file)),
        ),
    )

    anonymous: bool | None = None
    """Answer without a key, on a cluster to all of its namespaces. Left out, and without keys: on the loopback address
    alone; on a cluster to the endpoint's own namespace (the operator's, and who reads metrics), as far as the network
    plugin keeps the others out."""
    keys_secret: ShortText | None = None
    """Secret whose key `keys` holds bearer keys, one a line."""
    keys_file: ShortText | None = None
    """The same as a local file."""


class Limits(Api):
    """How much one replica takes on at once."""

    max_concurrent: int | None = Field(default=None, ge=1, le=4096)
    """Answers that the engine makes at once. Left out: 8 on a CPU, on a GPU what vLLM takes for it (256, on an H100
    1024)."""
    max_queue: int | None = Field(default=None, ge=0, le=65536)
    """Requests that wait; the next one is answered 429. Left out: four times maxConcurrent."""
    max_new_tokens: int = Field(default=1024, ge=1)
    """Longest answer, in tokens; never more than the context."""
    request_timeout: Duration = "10m"


class Rollout(Api):
    """How a new version takes over from the live one."""

    strategy: Literal["Auto", "BlueGreen", "Recreate"] = "Auto"
    """Auto and BlueGreen start the candidate beside the live version. Recreate stops the live version first and
    accepts the downtime."""
    start_timeout: Duration = "15m"
    """How long a candidate may take until it is ready, from when it has a place on a node."""
    probation: Duration = "30s"
    """How long the last version stays ready after a take-over, to come back when the new one fails."""
    drain: Duration = "30s"
    """How long running answers of the last version may take to complete."""


class Route(Api):
    """How the endpoint is reached from outside of the cluster."""

    host: ShortText
    """Host name of an HTTPRoute or Ingress."""


class EndpointTemplate(Api):
    """A ModelEndpoint's spec without its model."""

    rules: ClassVar = (
        Rule(
            "!(has(self.replicas) && has(self.autoscaling))",
            "set replicas or autoscaling, not both",
            lambda self: self.replicas is None or self.autoscaling is None,
        ),
        Rule(
            "!has(self.route)",
            "route is not built yet: leave it out",
            lambda self: self.route is None,
            "route",
        ),
        *placement.RULES,
    )

    port: int = Field(default=8000, ge=1, le=65535)
    """Port of the Service, or of this machine for a local run."""
    replicas: int | None = Field(default=None, ge=0, le=1000)
    """1 when autoscaling is left out too."""
    autoscaling: Autoscaling | None = None
    engine: Engine = Engine()
    resources: Resources | None = None
    node_selector: NodeSelector | None = None
    """Labels that a node must have; the chart's default when left out, none with {}."""
    tolerations: Tolerations | None = None
    """Taints on which the pods may run; the chart's default when left out, none with []."""
    priority_class_name: ShortText | None = None
    """PriorityClass of the pods; the chart's default when left out."""
    pod_labels: PodLabels | None = None
    """More labels of the pods; the chart's default when left out, none with {}."""
    pod_annotations: PodAnnotations | None = None
    """Annotations of the pods; the chart's default when left out, none with {}."""
    pod_template: TemplateName | None = None
    """One of the chart's defaults.serving.podTemplates: service account, runtime class, affinity, more environment and
    volumes of the pods."""
    access: Access = Access()
    limits: Limits = Limits()
    rollout: Rollout = Rollout()
    route: Route | None = None


class ModelEndpointSpec(EndpointTemplate):
    model: ServedModel | None = None
    rollback_to: int | None = Field(default=None, ge=1)
    """Version of status.history that goes live again."""
    promotion: Promotion | None = None
    """What every new version has to have, whoever brings its model: one that a run promotes, one that is set by hand,
    and one that is rolled back to. Not part of a run's template, and only on a cluster."""


class ModelEndpoint(Api):
    """One address behind which judged models take turns."""

    api_version: Literal["slipway.dev/v1alpha1"] = "slipway.dev/v1alpha1"
    kind: Literal["ModelEndpoint"] = "ModelEndpoint"
    metadata: Metadata
    spec: ModelEndpointSpec
    status: EndpointStatus | None = None
