"""Where pods run, and what they ask a node for."""

from __future__ import annotations

from typing import Annotated, ClassVar, Final

from pydantic import Field

from slipway_core.resources import placement
from slipway_core.resources.api import Api, Name, Quantity, ShortText, Text
from slipway_core.resources.placement import PodAnnotations, PodLabels, TemplateName, Tolerations


class Resources(Api):
    """CPU and memory of a pod."""

    requests: Annotated[dict[ShortText, Quantity], Field(max_length=16)] = Field(default_factory=dict)
    """What a node must have free: {cpu: "4", memory: 16Gi}."""
    limits: Annotated[dict[ShortText, Quantity], Field(max_length=16)] = Field(default_factory=dict)
    """What a pod may use at most."""


class Compute(Api):
    """Where the training stages run. All but accelerator and resources may be edited while the run is suspended or has
    not started."""

    rules: ClassVar = placement.RULES

    nodes: int = Field(default=1, ge=1, le=1024)
    """Pods; locally, nodes × processesPerNode processes."""
    processes_per_node: int = Field(default=1, ge=1, le=64)
    """Processes of a pod, one for each accelerator."""
    accelerator: ShortText | None = None
    """Extended resource such as nvidia.com/gpu. Left out: what torch finds, or the chart's default."""
    resources: Resources | None = None
    """Of each pod; the chart's default when left out."""
    queue: Name | None = None
    """Kueue LocalQueue."""
    node_selector: Annotated[dict[ShortText, Text], Field(max_length=32)] | None = None
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
    """One of the chart's defaults.training.podTemplates: service account, runtime class, affinity, more environment and
    volumes of the pods."""


PLACEMENT: Final = (
    "queue", "priority_class_name", "node_selector", "tolerations", "nodes", "processes_per_node", "pod_labels",
    "pod_annotations", "pod_template",
)  # fmt: skip
"""Fields of Compute that say where a run runs, and never what it does."""
