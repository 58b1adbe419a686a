"""What is beyond the limits of its namespace says so, and goes on once there is room: no tenant takes the memory of the
operator, which looks after all."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from slipway_core.resources import conditions
from slipway_core.resources.conditions import Blocker
from slipway_core.resources.status import EndpointStatus, RunStatus
from slipway_operator.cache.world import TOO_MANY, World
from slipway_operator.common.write_status import Status, StatusInvalidError, write_status
from slipway_operator.kube import resources
from slipway_operator.kube.cluster import Cluster
from slipway_operator.kube.kinds import TRAINING_RUN, Kind
from slipway_operator.kube.manifest import Manifest


@dataclass(frozen=True)
class TooMany:
    cluster: Cluster
    world: World
    clock: Callable[[], datetime]

    async def take_in(self, kind: Kind, namespace: str, name: str) -> bool:
        """Reads what was set aside, and keeps it where there is room by now. Returns whether it did.

        One that has no place is told so, once. Raises ClusterError.
        """
        aside = self.world.aside(kind, namespace, name)
        if aside is None:
            return False
        may = name in [key.name for key in self.world.next_in(kind, namespace)]
        if aside.told and not may:
            return False
        manifest = await self.cluster.get(kind, namespace, name)
        if manifest is None:
            return False  # Its deletion is told.
        self.world.put(manifest)
        if self.world.get(kind, namespace, name) is not None:
            return True
        with suppress(StatusInvalidError):  # The log has it, and there is no place for the object all the same.
            await self.tell(manifest, self._beyond(kind))
        return False

    async def tell(self, manifest: Manifest, blocker: Blocker) -> None:
        """Has an object say that it is not looked after, and why. Raises ClusterError and StatusInvalidError."""
        try:
            if manifest["kind"] == TRAINING_RUN.kind:
                await self._write(manifest, resources.run(manifest).status or RunStatus(), blocker)
            else:
                await self._write(manifest, resources.endpoint(manifest).status or EndpointStatus(), blocker)
        except resources.UnreadableError:
            return

    async def _write(self, manifest: Manifest, was: Status, blocker: Blocker) -> None:
        now, generation = self.clock(), manifest["metadata"].get("generation")
        own = conditions.put(was.conditions, blocker.type, "True", blocker.reason, blocker.message, now, generation)
        status = was.model_copy(update={"conditions": own, "observed_generation": generation})
        if status != was:
            await write_status(self.cluster, self.world, manifest, was, status, now)
            for event in conditions.warnings(was.conditions, [blocker]):
                await self.cluster.record(manifest, event)

    def overfull(self, namespace: str) -> Blocker | None:
        """Returns why nothing of a namespace is looked after: what belongs to its runs and endpoints is too much."""
        kinds = self.world.overfull(namespace)
        if not kinds:
            return None
        message = (
            f"the objects of this namespace with the label app.kubernetes.io/managed-by=slipway ({', '.join(kinds)}) "
            f"take more of the operator's memory than it gives a namespace (operator.limits.memory of its chart), so "
            "nothing here is started, judged or ended. Delete those that are no run's or endpoint's, or runs that are "
            "over, or raise the limit; it goes on within 10 minutes"
        )
        return Blocker(TOO_MANY, "NamespaceTooLarge", message)

    def _beyond(self, kind: Kind) -> Blocker:
        places, field = (
            (self.world.limits.runs, "runs") if kind == TRAINING_RUN else (self.world.limits.endpoints, "endpoints")
        )
        message = (
            f"the older {kind.plural} of this namespace are {places}, or too large together, and the operator looks "
            f"after no more (operator.limits.{field} and memory of its chart), so this one is left alone. Delete those "
            "that are over, or raise the limit; it goes on by itself then"
        )
        return Blocker(TOO_MANY, "NamespaceTooLarge", message)
