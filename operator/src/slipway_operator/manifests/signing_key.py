"""The key that signs verdicts, as a Secret of the operator's own namespace, and what everybody may know of it."""

from __future__ import annotations

import base64
from collections.abc import Sequence

from slipway_core.protocol import trust
from slipway_core.protocol.signing import SigningKey
from slipway_core.protocol.trust import TrustedKey
from slipway_operator.kube.manifest import Manifest
from slipway_operator.settings import Signing

PEM_KEY = "signing.pem"
OWN_KEY = "own.json"
TRUSTED_KEY = "trusted.json"
_LABELS = {"app.kubernetes.io/name": "slipway", "app.kubernetes.io/component": "signing"}
"""Not those by which the operator watches: it looks for neither of them but by its name."""


def signing_secret(key: SigningKey, place: Signing) -> Manifest:
    """Returns the Secret. It is immutable: another key is another Secret, whose making somebody has to allow."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": place.secret, "namespace": place.namespace, "labels": _LABELS},
        "type": "Opaque",
        "immutable": True,
        "data": {PEM_KEY: base64.b64encode(key.pem.encode()).decode()},
    }


def trusted_keys(own: Sequence[TrustedKey], trusted: Sequence[TrustedKey], place: Signing) -> Manifest:
    """Returns the ConfigMap that says by which keys a verdict counts. Nothing in it is secret.

    Args:
        own: the operator's keys, the one that signs first: also what it knows its lost key by.
        trusted: all keys that count, the own one with them.
        place: where it lies.
    """
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": place.keys, "namespace": place.namespace, "labels": _LABELS},
        "data": {OWN_KEY: trust.dump(own), TRUSTED_KEY: trust.dump(trusted)},
    }
