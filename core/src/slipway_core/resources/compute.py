"""Where pods run, and what they ask a node for."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from slipway_core.resources.api import Api, Name, Quantity, ShortText, Text


class Resources(Api):
    """CPU and memory of a pod."""

    requests: Annotated[dict[ShortText, Quantity], Field(max_length=16)] = Field(default_factory=dict)
    """What a node must have free: {cpu: "4", memory: 16Gi}."""
    limits: Annotated[dict[ShortText, Quantity], Field(max_length=16)] = Field(default_factory=dict)
    """What a pod may use at most."""


class Toleration(Api):
    """A taint of nodes on which the pods may run."""

    key: ShortText | None = None
    """Key of the taint; every taint when left out with operator Exists."""
    operator: Literal["Exists", "Equal"] = "Equal"
    value: str | None = Field(default=None, max_length=63)
    """Value of the taint, with operator Equal."""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    """Effect of the taint; every effect when left out."""
    toleration_seconds: int | None = None
    """How long a pod stays on a node that gets the taint; for ever when left out."""


class Compute(Api):
    """Where the training stages run."""

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
    node_selector: Annotated[dict[ShortText, Text], Field(max_length=32)] = Field(default_factory=dict)
    """Labels that a node must have."""
    tolerations: Annotated[list[Toleration], Field(max_length=32)] = Field(default_factory=list[Toleration])
    """Taints on which the pods may run."""
    priority_class_name: ShortText | None = None
    """PriorityClass of the pods."""
