"""What the chart tells whoever uses the cluster: the ConfigMap `slipway-client` in kube-public.

Its key `client.yaml` holds what the command line needs to make pods and the workspace claim as the operator does:

```yaml
images: {train: slipway-train:dev, pullPolicy: IfNotPresent, pullSecrets: []}
workspace: {storageClass: standard, size: 50Gi, accessModes: [ReadWriteOnce]}
retention: {grace: 24h}
operator:
  namespace: slipway-system
  lease: slipway-operator
  watchNamespaces: []
  trustedKeys: slipway-operator-trusted-keys
```
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from slipway.cluster.kubectl import ClusterError, Forbidden, Kubectl, NotFound

NAMESPACE = "kube-public"
CONFIG_MAP = "slipway-client"
KEY = "client.yaml"


@dataclass(frozen=True)
class ClientSettings:
    image: str
    """The train image."""
    pull_policy: str = "IfNotPresent"
    pull_secrets: tuple[str, ...] = ()
    storage_class: str | None = None
    """The cluster's default class when None."""
    size: str = "50Gi"
    access_modes: tuple[str, ...] = ("ReadWriteOnce",)
    grace: str | None = None
    """How long the folder of a run stays that is gone; None where an older chart says nothing of it."""


@dataclass(frozen=True)
class OperatorPlace:
    """Where the operator is, and what it looks after."""

    namespace: str
    lease: str
    """The Lease that the one at work holds, in that namespace."""
    watch_namespaces: tuple[str, ...] = ()
    """Empty: all."""
    trusted_keys: str | None = None
    """ConfigMap in that namespace by whose keys verdicts count; None where an older chart says nothing of it."""


def operator_place(kubectl: Kubectl) -> OperatorPlace | None:
    """Returns where the operator is; None where a chart of an older release does not tell.

    Raises Forbidden when this user may not read it, and ClusterError when it is not there or cannot be used.
    """
    text = kubectl.in_namespace(NAMESPACE).get("configmap", CONFIG_MAP).get("data", {}).get(KEY, "")
    try:
        document: Any = YAML(typ="safe", pure=True).load(text) or {}
        told = document.get("operator") or {}
        if not told:
            return None
        return OperatorPlace(
            str(told["namespace"]),
            str(told["lease"]),
            tuple(told.get("watchNamespaces") or ()),
            told.get("trustedKeys"),
        )
    except (YAMLError, AttributeError, KeyError, TypeError):
        raise ClusterError(
            f"ConfigMap {CONFIG_MAP} in namespace {NAMESPACE}: {KEY} does not say where the operator is; install the "
            "chart again"
        ) from None


def read(kubectl: Kubectl, image: str | None = None) -> ClientSettings:
    """Returns the settings of the cluster.

    Args:
        image: taken instead of the cluster's train image, which then need not be known.

    Raises ClusterError when there are none and no image is given, or when they cannot be used; Forbidden when this user
    may not read them, which is so for most users where the chart made none.
    """
    try:
        text = kubectl.in_namespace(NAMESPACE).get("configmap", CONFIG_MAP).get("data", {}).get(KEY, "")
    except (NotFound, Forbidden) as error:
        if image is not None:
            return ClientSettings(image)
        kind = Forbidden if isinstance(error, Forbidden) else ClusterError
        raise kind(
            f"this user sees no ConfigMap {CONFIG_MAP} in namespace {NAMESPACE}, in which Slipway's chart names the "
            "train image; have it installed with clientSettings.enabled, or name an image to submit with --image"
        ) from None
    return parse(text, image)


def parse(text: str, image: str | None = None) -> ClientSettings:
    """Reads `client.yaml`; keys that are not known here are left to newer versions. Raises ClusterError."""
    try:
        document: Any = YAML(typ="safe", pure=True).load(text) or {}
        images, workspace = document.get("images") or {}, document.get("workspace") or {}
        defaults = ClientSettings(image or images["train"])
        return replace(
            defaults,
            pull_policy=images.get("pullPolicy") or defaults.pull_policy,
            pull_secrets=tuple(images.get("pullSecrets") or ()),
            storage_class=workspace.get("storageClass") or None,
            size=str(workspace.get("size") or defaults.size),
            access_modes=tuple(workspace.get("accessModes") or defaults.access_modes),
            grace=(document.get("retention") or {}).get("grace"),
        )
    except (YAMLError, AttributeError, KeyError, TypeError):
        raise ClusterError(
            f"ConfigMap {CONFIG_MAP} in namespace {NAMESPACE}: {KEY} names no images.train; install the chart again, "
            "or name the image with --image"
        ) from None
