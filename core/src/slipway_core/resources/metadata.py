"""The part of Kubernetes' metadata that Slipway reads."""

from __future__ import annotations

from pydantic import ConfigDict, Field

from slipway_core.resources.api import Api, Name


class Metadata(Api):
    """The part of Kubernetes' metadata that Slipway reads; the rest is kept as it is."""

    model_config = ConfigDict(extra="allow")

    name: Name
    namespace: Name | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)
    uid: str | None = None
    generation: int | None = None
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None
