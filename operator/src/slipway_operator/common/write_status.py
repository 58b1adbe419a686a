"""One write of a status, and what an object says whose status the API server does not take."""

from __future__ import annotations

import logging
from datetime import datetime
from typing import TypeVar

from slipway_core.resources import conditions
from slipway_core.resources.status import EndpointStatus, RunStatus, fit
from slipway_operator.cache.world import World
from slipway_operator.common import refusal
from slipway_operator.kube import resources
from slipway_operator.kube.cluster import Cluster
from slipway_operator.kube.errors import Invalid
from slipway_operator.kube.manifest import Manifest

log = logging.getLogger(__name__)

Status = TypeVar("Status", RunStatus, EndpointStatus)


class StatusInvalidError(Exception):
    """The API server does not take what was decided as a status. The object has a condition that says so."""


async def write_status(
    cluster: Cluster, world: World, manifest: Manifest, was: Status, status: Status, now: datetime
) -> None:
    """Writes the status of an object.

    Raises StatusInvalidError when the API server does not take it, with the object's status left as it was but for the
    condition; Invalid when it does not take that either; and ClusterError.
    """
    try:
        world.put(await cluster.replace_status(resources.with_status(manifest, status)))
    except Invalid as error:
        problem = f"the API server does not take what the operator found out, so it cannot be recorded: {error}"
        generation = manifest["metadata"].get("generation")
        own = conditions.put(was.conditions, refusal.CONDITION, "True", "StatusInvalid", fit(problem), now, generation)
        told = was.model_copy(update={"conditions": own})
        # Said once: while the API server goes on refusing the same, nothing more is written.
        if told != was:
            log.error("%s", problem)
            world.put(await cluster.replace_status(resources.with_status(manifest, told)))
        raise StatusInvalidError(problem) from error
