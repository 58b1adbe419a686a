"""Who an object goes with: when its owner is deleted, the garbage collector deletes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from slipway_core.resources.api import API_VERSION
from slipway_operator.kube.manifest import Manifest


@dataclass(frozen=True)
class Owner:
    api_version: str
    kind: str
    name: str
    uid: str

    @classmethod
    def of(cls, manifest: Manifest) -> Self:
        """Returns an object of the cluster as an owner."""
        metadata = manifest["metadata"]
        return cls(manifest["apiVersion"], manifest["kind"], metadata["name"], metadata["uid"])

    @classmethod
    def run(cls, name: str, uid: str) -> Self:
        return cls(API_VERSION, "TrainingRun", name, uid)

    @classmethod
    def endpoint(cls, name: str, uid: str) -> Self:
        return cls(API_VERSION, "ModelEndpoint", name, uid)

    def reference(self) -> Manifest:
        """Returns the ownerReference. It blocks nothing: whoever deletes an owner need not wait for what it owns."""
        return {
            "apiVersion": self.api_version,
            "kind": self.kind,
            "name": self.name,
            "uid": self.uid,
            "controller": True,
            "blockOwnerDeletion": False,
        }
