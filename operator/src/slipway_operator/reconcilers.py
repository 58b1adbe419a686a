"""The passes that the workers make, by the kind of a key."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

from slipway_operator.cache.world import World
from slipway_operator.common.large_objects import LargeObjects
from slipway_operator.common.next_look import soonest
from slipway_operator.common.orphaned_objects import OrphanedObjects
from slipway_operator.common.signing_keys import SigningKeys
from slipway_operator.common.verdict_reader import VerdictReader
from slipway_operator.endpoints.reconcile import EndpointReconciler
from slipway_operator.kube.cluster import Cluster
from slipway_operator.kube.pod_http import Pods
from slipway_operator.loop.metrics import Metrics
from slipway_operator.loop.workers import Reconcile
from slipway_operator.runs.reconcile import RunReconciler
from slipway_operator.settings import Settings


def reconcilers(
    cluster: Cluster, world: World, settings: Settings, metrics: Metrics, clock: Callable[[], datetime]
) -> Mapping[str, Reconcile]:
    """Returns the passes over runs, endpoints, and what those that were deleted left in a namespace.

    What they remember of a process is theirs: they are made anew each time that this replica begins to lead.
    """
    pods = Pods(settings)
    keys = SigningKeys(cluster, world, settings, clock)
    records = VerdictReader(cluster, world, keys)
    large = LargeObjects()
    runs = RunReconciler(cluster, world, settings, pods, metrics, clock, records, keys, large)
    endpoints = EndpointReconciler(cluster, world, settings, pods, metrics, clock, records, keys, large)

    orphans = OrphanedObjects(cluster, world, clock)

    async def look_after(namespace: str, uid: str) -> timedelta | None:
        run = None if uid == namespace else uid
        waits = await orphans.end(namespace, run)
        return soonest(waits, await runs.retention.reconcile(namespace, uid=run))

    return {
        "TrainingRun": runs.reconcile,
        "ModelEndpoint": endpoints.reconcile,
        "Namespace": look_after,
    }
