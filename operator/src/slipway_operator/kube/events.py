"""Builds core/v1 Events: what a person reads in `kubectl describe`. Pure."""

from __future__ import annotations

import hashlib
import json
from datetime import datetime

from slipway_core.resources.events import Event
from slipway_operator import names
from slipway_operator.kube.kinds import EVENT
from slipway_operator.kube.manifest import Manifest, at

_LIMIT = 1024
"""Characters of a message that every reader of Events takes."""


def api_event(involved: Manifest, event: Event, now: datetime) -> Manifest:
    """Returns the manifest of an Event about an object.

    Its name comes from what it says and from the generation that it is about. A pass that died after it and is repeated
    makes the same name, which the API server refuses, and nobody reads it twice; the same words about a later
    generation of the object are news again.
    """
    metadata = at(involved, "metadata")
    said = json.dumps([metadata.get("uid"), metadata.get("generation"), event.type, event.reason, event.message])
    digest = hashlib.sha256(said.encode()).hexdigest()[:16]
    moment = now.strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "apiVersion": EVENT.api_version,
        "kind": EVENT.kind,
        "metadata": {"name": f"{metadata['name'][:230]}.{digest}", "namespace": metadata["namespace"]},
        "involvedObject": {
            "apiVersion": involved["apiVersion"],
            "kind": involved["kind"],
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "uid": metadata.get("uid", ""),
            "resourceVersion": metadata.get("resourceVersion", ""),
        },
        "type": event.type,
        "reason": event.reason,
        "message": event.message if len(event.message) <= _LIMIT else f"{event.message[: _LIMIT - 1]}…",
        "source": {"component": names.MANAGER},
        "reportingComponent": names.MANAGER,
        "firstTimestamp": moment,
        "lastTimestamp": moment,
        "count": 1,
    }
