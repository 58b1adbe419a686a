"""Secrets of private sources, as the environment that the libraries read."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from slipway_core.resources import uris
from slipway_operator.kube.manifest import Manifest
from slipway_operator.manifests.errors import ManifestError
from slipway_operator.manifests.pod import environment

HUB_TOKEN = "HF_TOKEN"
HUB_KEY = "token"
"""Key of a hub's Secret."""


@dataclass(frozen=True)
class Source:
    """Something that a process reads."""

    uri: str
    credentials: str | None = None
    """Name of a Secret."""
    field: str = ""
    """Of the plan, for whoever is told that it is not there."""


def container_part(sources: Iterable[Source]) -> Manifest:
    """Returns `env` and `envFrom` of a container that reads these sources.

    Raises ManifestError when two Secrets would set the same variables: a process has one environment.
    """
    chosen = _secrets(sources)
    hub = chosen.pop("hf", None)
    stores = sorted(set(chosen.values()))
    return {
        "env": [environment.from_secret(HUB_TOKEN, hub, HUB_KEY)] if hub else [],
        "envFrom": [{"secretRef": {"name": secret}} for secret in stores],
    }


def _secrets(sources: Iterable[Source]) -> dict[str, str]:
    """Returns the Secret of each scheme."""
    found: dict[str, str] = {}
    for source in sources:
        uri = uris.parse(source.uri)
        if source.credentials is None or not uri.remote:
            continue
        scheme = uri.scheme
        if found.setdefault(scheme, source.credentials) != source.credentials:
            raise ManifestError(
                "CredentialsConflict",
                f"credentials: {found[scheme]} and {source.credentials} are both for {scheme}:// in one step, and a "
                "process has one environment; put what both may read behind one Secret",
            )
    return found
