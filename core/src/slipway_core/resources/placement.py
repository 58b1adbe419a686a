"""Where pods may go, and what their owners write on them: the same words for a run and for an endpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import Field

from slipway_core.resources.api import GROUP, Api, Name, Rule, ShortText

LABEL_PATTERN = r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$"

RESERVED: Final = (
    f"{GROUP}/", "app.kubernetes.io/managed-by", "batch.kubernetes.io/", "kueue.x-k8s.io/",
    "controller-uid", "job-name", "pod-template-hash", "container.apparmor.security.beta.kubernetes.io/",
)  # fmt: skip
"""How keys begin by which Slipway, the controllers of Kubernetes and Kueue know a pod, or which loosen what keeps its
processes in: nobody else sets those."""


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


LabelValue = Annotated[str, Field(pattern=LABEL_PATTERN, max_length=63)]
NodeSelector = Annotated[dict[ShortText, LabelValue], Field(max_length=32)]
Tolerations = Annotated[list[Toleration], Field(max_length=32)]
PodLabels = Annotated[dict[ShortText, LabelValue], Field(max_length=32)]
PodAnnotations = Annotated[dict[ShortText, Annotated[str, Field(max_length=1024)]], Field(max_length=32)]
"""Bounded, since what a version was made of is kept in annotations, of which an object may have 256 KiB."""
TemplateName = Name


def reserved(keys: Mapping[str, str] | None) -> list[str]:
    """Returns the keys that nobody may set on a pod."""
    return sorted(key for key in keys or {} if key.startswith(RESERVED))


def _rule(field: str, attribute: str) -> Rule:
    taken = " || ".join(f"k.startsWith('{begin}')" for begin in RESERVED)

    def found(self: Any) -> list[str]:
        return reserved(getattr(self, attribute))

    return Rule(
        f"!has(self.{field}) || !self.{field}.exists(k, {taken})",
        f"{field} must not have keys by which Slipway or Kubernetes know a pod ({', '.join(RESERVED)}): leave them out",
        lambda self: not found(self),
        field,
        lambda self: ", ".join(found(self)),
    )


RULES: Final = (_rule("podLabels", "pod_labels"), _rule("podAnnotations", "pod_annotations"))
"""Of everything that has these fields."""
