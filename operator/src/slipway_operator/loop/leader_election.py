"""Which of the replicas reconciles: the one that holds the Lease. The others keep their caches warm.

As in client-go, a replica trusts nobody's clock: another's Lease has run out when it was not renewed for its duration
since this replica first saw it so. The one that holds it stops a third of the duration earlier than that.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime

from slipway_operator.kube.cluster import Cluster
from slipway_operator.kube.errors import AlreadyExists, ClusterError, Conflict
from slipway_operator.kube.kinds import LEASE
from slipway_operator.kube.manifest import Manifest, at
from slipway_operator.settings import Lease

_log = logging.getLogger(__name__)

_TRUSTED = 2 / 3
"""Part of the Lease's duration that its holder relies upon: what is on its way then has time to arrive."""
_RELEASE_SECONDS = 3.0


@dataclass
class LeaderElection:
    cluster: Cluster
    """With a rate limit of its own: renewing must not wait behind the passes."""
    settings: Lease
    identity: str
    """Unlike that of any other process, this pod's last one included."""
    clock: Callable[[], datetime]
    monotonic: Callable[[], float]
    _until: float = field(default=float("-inf"))
    _lease: Manifest | None = None
    """As it was seen last."""
    _seen_at: float = 0.0
    """When its holder or its renewal was first seen as it is."""
    _told_of: str = ""
    """Who leads, as the log was told last."""

    def leads(self) -> bool:
        """Tells whether this replica may write now."""
        return self.monotonic() < self._until

    async def run(self, work: Callable[[], Awaitable[None]]) -> None:
        """Works whenever it holds the Lease, until it is cancelled; then it gives the Lease back.

        `work` is cancelled when the Lease is lost, and started anew when it is won again. Its errors are raised.
        """
        try:
            while True:
                if await self._try():
                    _log.info("this replica (%s) leads", self.identity)
                    self._told_of = ""
                    await self._term(work)
                    _log.warning("this replica (%s) does not lead any more", self.identity)
                self._tell_who_leads()
                await asyncio.sleep(self.settings.renew_seconds)
        finally:
            await self._release()

    def _tell_who_leads(self) -> None:
        """An empty log of a replica that waits would leave it open whether it works; and people see one replica's."""
        holder = str(at(self._lease, "spec").get("holderIdentity") or "")
        if holder not in ("", self.identity, self._told_of):
            _log.info("this replica (%s) waits and watches: %s leads, and its log has the work", self.identity, holder)
            self._told_of = holder

    async def _term(self, work: Callable[[], Awaitable[None]]) -> None:
        task = asyncio.ensure_future(work())
        pause = self.settings.renew_seconds
        try:
            while self.leads():
                await asyncio.wait({task}, timeout=min(pause, self._until - self.monotonic()))
                if task.done():
                    task.result()
                    return
                renewed = await self._try()
                pause = self.settings.renew_seconds if renewed else self.settings.renew_seconds / 5
        finally:
            self._until = float("-inf")
            task.cancel()
            await asyncio.wait({task})

    async def _try(self) -> bool:
        """Takes or renews the Lease. Returns whether it is ours by an answer of now."""
        asked = self.monotonic()
        worth = self.settings.duration_seconds * _TRUSTED
        # An answer that takes longer is worth nothing. The one that leads keeps time for another try: the API server
        # may be slow, and a connection may be dead.
        left = self._until - asked
        patience = min(left, max(self.settings.renew_seconds, left / 2)) if left > 0 else worth
        try:
            async with asyncio.timeout(patience):
                ours = await self._take()
        except ClusterError as error:
            self._not_reached(str(error))
            return False
        except TimeoutError:
            self._not_reached(f"no answer within {patience:.1f} s")
            return False
        self._until = asked + worth if ours else float("-inf")
        return ours

    def _not_reached(self, why: str) -> None:
        _log.warning("the Lease %s/%s was not reached: %s", self.settings.namespace, self.settings.name, why)

    async def _take(self) -> bool:
        if self._is_ours(self._lease):
            try:
                return self._see(await self.cluster.replace(self._renewed(self._lease or {})))
            except Conflict:
                pass  # Somebody wrote it meanwhile: look who.
        there = await self.cluster.get(LEASE, self.settings.namespace, self.settings.name)
        try:
            if there is None:
                return self._see(await self.cluster.create(self._renewed(self._new())))
            self._see(there)
            if self._is_ours(there) or self._has_run_out(there):
                return self._see(await self.cluster.replace(self._renewed(there)))
        except (AlreadyExists, Conflict):
            pass  # Another replica was quicker.
        return False

    def _see(self, lease: Manifest) -> bool:
        held = at(self._lease, "spec")
        spec = at(lease, "spec")
        if any(held.get(name) != spec.get(name) for name in ("holderIdentity", "renewTime")):
            self._seen_at = self.monotonic()
        self._lease = lease
        return self._is_ours(lease)

    def _is_ours(self, lease: Manifest | None) -> bool:
        return at(lease, "spec").get("holderIdentity") == self.identity

    def _has_run_out(self, lease: Manifest) -> bool:
        spec = at(lease, "spec")
        if not spec.get("holderIdentity"):
            return True
        duration = float(spec.get("leaseDurationSeconds") or self.settings.duration_seconds)
        return self.monotonic() - self._seen_at >= duration

    def _renewed(self, lease: Manifest) -> Manifest:
        was = at(lease, "spec")
        now = self.clock().strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        spec: Manifest = {**was, "holderIdentity": self.identity, "renewTime": now}
        spec["leaseDurationSeconds"] = max(1, round(self.settings.duration_seconds))
        if was.get("holderIdentity") != self.identity:
            spec["acquireTime"] = now
            spec["leaseTransitions"] = int(was.get("leaseTransitions") or 0) + ("renewTime" in was)
        return {**lease, "spec": spec}

    def _new(self) -> Manifest:
        metadata = {"name": self.settings.name, "namespace": self.settings.namespace}
        return {"apiVersion": LEASE.api_version, "kind": LEASE.kind, "metadata": metadata}

    async def _release(self) -> None:
        if not self._is_ours(self._lease):
            return
        try:
            async with asyncio.timeout(_RELEASE_SECONDS):
                await self._give_back(self._lease or {})
        except (ClusterError, TimeoutError) as error:
            why = str(error) or f"no answer within {_RELEASE_SECONDS:.0f} s"
            _log.warning("the Lease was not given back and runs out by itself: %s", why)
        self._lease = None

    async def _give_back(self, lease: Manifest) -> None:
        try:
            await self._leave(lease)
        except Conflict:
            # By a renewal of ours, which the end came before the answer to, or by another replica.
            there = await self.cluster.get(LEASE, self.settings.namespace, self.settings.name)
            if there is not None and self._is_ours(there):
                await self._leave(there)

    async def _leave(self, lease: Manifest) -> None:
        await self.cluster.replace({**lease, "spec": {**at(lease, "spec"), "holderIdentity": ""}})
