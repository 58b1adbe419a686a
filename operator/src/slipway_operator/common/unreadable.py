"""What an object says that this operator cannot read: a newer version wrote it, or another hand."""

from __future__ import annotations

import logging
from datetime import datetime
from typing import Any, cast

from slipway_core.resources.conditions import timestamp
from slipway_core.resources.events import Event
from slipway_core.resources.status import CONDITION_LIMIT, fit
from slipway_operator.cache.world import World
from slipway_operator.kube.cluster import Cluster
from slipway_operator.kube.errors import Invalid
from slipway_operator.kube.manifest import Manifest, at
from slipway_operator.kube.resources import UnreadableError

log = logging.getLogger(__name__)

CONDITION = "Unreadable"


async def tell(cluster: Cluster, world: World, manifest: Manifest, error: UnreadableError, now: datetime) -> None:
    """Gives the object a condition; the rest of its status stays as it is stored. The next pass that can read it takes
    the condition away again, as that of anything else that was in the way. Raises ClusterError."""
    told = _with_condition(manifest, fit(f"{error}. Nothing is decided about it until then", CONDITION_LIMIT), now)
    if told is manifest:
        return
    log.error("%s", error)
    try:
        world.put(await cluster.replace_status(told))
    except Invalid as refused:
        log.error("the API server does not take a condition that says so: %s", refused)
    await cluster.record(manifest, Event("Warning", CONDITION, str(error)))


def _with_condition(manifest: Manifest, message: str, now: datetime) -> Manifest:
    """Returns the object itself when it says so already."""
    status = at(manifest, "status")
    stored: Any = status.get("conditions")
    others, was = cast(list[Any], stored) if isinstance(stored, list) else [], cast(Manifest, {})
    for one in others:
        if isinstance(one, dict) and cast(Manifest, one).get("type") == CONDITION:
            was = cast(Manifest, one)
    if was.get("message") == message:
        return manifest
    own = {
        "type": CONDITION,
        "status": "True",
        "reason": "NotUnderstood",
        "message": message,
        "lastTransitionTime": was.get("lastTransitionTime") or timestamp(now),
        "observedGeneration": manifest["metadata"].get("generation"),
    }
    return {**manifest, "status": {**status, "conditions": [*(one for one in others if one is not was), own]}}
