"""Environment variables of a container, from their three sources."""

from __future__ import annotations

from collections.abc import Mapping

from slipway_operator.kube.manifest import Manifest


def values(variables: Mapping[str, str]) -> list[Manifest]:
    return [{"name": name, "value": value} for name, value in variables.items()]


def from_field(name: str, path: str) -> Manifest:
    """Returns a variable that has the value of a field of the pod itself."""
    return {"name": name, "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": path}}}


def from_secret(name: str, secret: str, key: str, *, optional: bool = False) -> Manifest:
    """Returns a variable that has the value of a Secret's key; without it the pod does not start, and says so, unless
    the key is optional."""
    chosen = {"name": secret, "key": key, **({"optional": True} if optional else {})}
    return {"name": name, "valueFrom": {"secretKeyRef": chosen}}
