"""Secrets of private sources, as the environment that the libraries read: named variables, and none besides.

Whoever may write a Secret must not choose the variables of a process: with `PYTHONPATH` or `LD_PRELOAD` evaluate would
be their program, and its verdict theirs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from slipway_core.resources import uris
from slipway_operator.kube.manifest import Manifest
from slipway_operator.manifests.errors import ManifestError
from slipway_operator.manifests.pod import environment

HUB_TOKEN = "HF_TOKEN"
HUB_KEY = "token"
"""Key of a hub's Secret."""
STORE_VARIABLES: Final[Mapping[str, tuple[str, ...]]] = {
    "s3": (
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AWS_REGION",
        "AWS_DEFAULT_REGION",
        "AWS_ENDPOINT_URL",
        "AWS_SKIP_SIGNATURE",
        "AWS_VIRTUAL_HOSTED_STYLE_REQUEST",
        "AWS_S3_EXPRESS",
        "AWS_REQUEST_PAYER",
        "AWS_UNSIGNED_PAYLOAD",
    ),
    "gs": (
        "GOOGLE_SERVICE_ACCOUNT_KEY",
        "GOOGLE_SERVICE_ACCOUNT",
        "GOOGLE_BEARER_TOKEN",
        "GOOGLE_BASE_URL",
        "GOOGLE_SKIP_SIGNATURE",
    ),
}
"""By scheme: the keys of a store's Secret that a process gets, under the same names."""
PRESENT: Final = "SLIPWAY_SECRET_"
"""How the variables begin that a whole Secret becomes, which nothing reads: each key of it may be left out, and a pod
must not start without the Secret."""


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
    token = [environment.from_secret(HUB_TOKEN, hub, HUB_KEY)] if hub else []
    return {
        "env": [*token, *_of_stores(chosen)],
        "envFrom": [{"prefix": PRESENT, "secretRef": {"name": secret}} for secret in sorted(set(chosen.values()))],
    }


def _of_stores(chosen: Mapping[str, str]) -> Iterator[Manifest]:
    for scheme, secret in sorted(chosen.items()):
        yield from (environment.from_secret(name, secret, name, optional=True) for name in STORE_VARIABLES[scheme])


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
