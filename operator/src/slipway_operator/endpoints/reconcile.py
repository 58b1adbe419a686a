"""One pass over an endpoint: observe, `rollout.step`, write one status, apply, tell what happened.

The twin of the local endpoint executor; policy is `rollout.step` alone. The status of a decision is written before the
rest of it is applied, so that whoever comes after a crash knows what was decided: everything else is decided again from
the status and the world.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Iterator, Set
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from slipway_core.lifecycle.annotations import RETRY_ANNOTATION, request_token
from slipway_core.resources.conditions import Blocker, parse_timestamp
from slipway_core.resources.model_endpoint import ModelEndpoint
from slipway_core.resources.status import EndpointStatus, VersionStatus
from slipway_core.rollout import step as rollout
from slipway_core.rollout.decision import EndpointDecision
from slipway_core.rollout.observed import EndpointObserved
from slipway_operator import names
from slipway_operator.cache.key import Key
from slipway_operator.cache.world import World
from slipway_operator.common import refusal, unreadable
from slipway_operator.common.large_objects import LATER, LargeObjects
from slipway_operator.common.next_look import soonest
from slipway_operator.common.owned_objects import OwnedObjects, TakenError
from slipway_operator.common.signing_keys import SigningKeys
from slipway_operator.common.status_throttle import StatusThrottle, settled_endpoint
from slipway_operator.common.too_many import TooMany
from slipway_operator.common.verdict_reader import VerdictReader
from slipway_operator.common.write_status import StatusInvalidError, write_status
from slipway_operator.endpoints.judgements import Judgements
from slipway_operator.endpoints.proofs import Proofs
from slipway_operator.endpoints.standings import Standings
from slipway_operator.endpoints.versions import Answers, ObservedVersions, Versions, may_come_back
from slipway_operator.kube import resources
from slipway_operator.kube.cluster import Cluster
from slipway_operator.kube.errors import Forbidden, Invalid, QuotaExceeded
from slipway_operator.kube.kinds import MODEL_ENDPOINT, SERVICE
from slipway_operator.kube.manifest import Manifest
from slipway_operator.loop.metrics import Metrics
from slipway_operator.manifests.endpoint import access
from slipway_operator.manifests.endpoint.autoscaler import autoscaler
from slipway_operator.manifests.endpoint.metadata import endpoint_object
from slipway_operator.manifests.endpoint.network_policy import network_policy
from slipway_operator.manifests.endpoint.pod_disruption_budget import pod_disruption_budget
from slipway_operator.manifests.endpoint.service import endpoint_service, routed_version
from slipway_operator.manifests.errors import ManifestError
from slipway_operator.settings import Settings

log = logging.getLogger(__name__)

Action = Callable[[], Awaitable[None]]

_ASKING = timedelta(seconds=1)
"""Between two looks at a candidate that is being asked a prompt."""
_STARTING = timedelta(seconds=10)
"""Between two looks at one that starts: why it does not is told by Events, which nobody watches."""
_AT_ONCE = timedelta(0)


@dataclass
class EndpointReconciler:
    cluster: Cluster
    world: World
    settings: Settings
    pods: Answers
    metrics: Metrics
    clock: Callable[[], datetime]
    records: VerdictReader
    keys: SigningKeys
    large: LargeObjects
    """That of the process: what passes over large objects take is its memory, of whatever kind they are."""
    monotonic: Callable[[], float] = time.monotonic
    standings: Standings = field(init=False)
    proofs: Proofs = field(init=False)
    judgements: Judgements = field(init=False)
    versions: Versions = field(init=False)
    owned: OwnedObjects = field(init=False)
    too_many: TooMany = field(init=False)
    writes: StatusThrottle[EndpointStatus] = field(init=False)
    _refused: dict[str, Blocker] = field(default_factory=dict[str, Blocker])
    """What the API server did not take of an endpoint, by its uid; it is a condition for as long as that lasts."""
    _uids: dict[tuple[str, str], str] = field(default_factory=dict[tuple[str, str], str])
    """Of the endpoint that was seen last under a name: whatever is remembered of it goes when it does."""

    def __post_init__(self) -> None:
        self.standings = Standings(self.cluster, self.world, self.records, self.keys)
        self.proofs = Proofs(self.world, self.records, self.keys, self.standings, self.clock)
        self.judgements = Judgements(self.world, self.records, self.keys)
        self.versions = Versions(self.cluster, self.world, self.settings, self.pods, self.proofs, self.clock)
        self.owned = OwnedObjects(self.cluster, self.world, self.clock)
        self.too_many = TooMany(self.cluster, self.world, self.clock)
        self.writes = StatusThrottle(settled_endpoint, self.monotonic)

    async def reconcile(self, namespace: str, name: str) -> timedelta | None:
        """Brings an endpoint one step on. Returns when to look again at the latest; None waits for an event.

        Raises ClusterError: the pass is repeated later.
        """
        with self.large.turn(self.world.weight(MODEL_ENDPOINT, namespace, name)) as may:
            return await self._reconcile(namespace, name) if may else LATER

    async def _reconcile(self, namespace: str, name: str) -> timedelta | None:
        manifest = self.world.get(MODEL_ENDPOINT, namespace, name)
        if manifest is None and await self.too_many.take_in(MODEL_ENDPOINT, namespace, name):
            manifest = self.world.get(MODEL_ENDPOINT, namespace, name)
        if manifest is None or "deletionTimestamp" in manifest["metadata"]:
            # Its children go by their ownerReferences, the pods with their linger and drain.
            self._forget(namespace, name)
            return None
        if self._uids.get((namespace, name)) != manifest["metadata"]["uid"]:
            self._forget(namespace, name)
            self._uids[namespace, name] = manifest["metadata"]["uid"]
        try:
            endpoint = resources.endpoint(manifest)
        except resources.UnreadableError as error:
            await unreadable.tell(self.cluster, self.world, manifest, error, self.clock())
            return None
        try:
            if (blocker := self.too_many.overfull(namespace)) is not None:
                await self.too_many.tell(manifest, blocker)
                return None
            return await self._pass(manifest, endpoint)
        except StatusInvalidError:
            return self._try_again(manifest, "StatusInvalid")

    async def _pass(self, manifest: Manifest, endpoint: ModelEndpoint) -> timedelta | None:
        seen = await self.versions.observe(endpoint, manifest)
        await self._ask_candidate(endpoint, seen)
        observed = await self._observed(manifest, endpoint, seen)
        decision = rollout.step(endpoint, observed, self.clock())
        wait = await self._write(manifest, endpoint.status, decision.status)
        decided = endpoint.model_copy(update={"status": decision.status})
        try:
            refused = await self._try_apply(manifest, decided, decision, seen, observed.revoked)
        finally:
            # After the traffic has moved, and also when a call failed: the next pass does not decide it again.
            await self._tell(manifest, endpoint.status, decision)
        return soonest(wait, refused, decision.look_again, seen.look_again, _next_look(decision, seen))

    # ------------------------------------------------------------------------------------------------ observe

    async def _ask_candidate(self, endpoint: ModelEndpoint, seen: ObservedVersions) -> None:
        """Has a candidate that is ready asked, or reads its answer: `rollout.step` decides upon it."""
        candidate = (endpoint.status or EndpointStatus()).candidate
        view = seen.views.get(candidate.version) if candidate is not None else None
        if candidate is not None and view is not None and view.state == "Ready":
            await self.versions.ask(seen, candidate.version)

    async def _observed(self, manifest: Manifest, endpoint: ModelEndpoint, seen: ObservedVersions) -> EndpointObserved:
        metadata = manifest["metadata"]
        digests = _digests(endpoint)
        proofs = await self.proofs.of(endpoint, digests)
        passed = frozenset(digest for digest, proof in proofs.items() if proof.passes)
        many = await self.standings.many(metadata["namespace"], digests)
        blockers = [*seen.blockers, access.open_access(endpoint.spec), many, self._refused.get(metadata["uid"])]
        return EndpointObserved(
            versions=seen.views,
            route=routed_version(self._service(endpoint)),
            passed=passed,
            url=f"http://{names.service(metadata['name'])}.{metadata['namespace']}.svc:{endpoint.spec.port}",
            retry=request_token(endpoint.metadata.annotations, RETRY_ANNOTATION),
            blockers=tuple(blocker for blocker in blockers if blocker is not None),
            proofs=proofs,
            revoked=await self.proofs.revoked(),
            parity=await self.proofs.parity(metadata["namespace"], passed),
            judged=await self.proofs.judged(metadata["namespace"], passed if endpoint.spec.promotion else ()),
            approvals_guarded=self.settings.admission_policies,
            judgements=await self.judgements.of(metadata["namespace"], metadata["name"]),
        )

    # ------------------------------------------------------------------------------------------------ write and tell

    async def _write(self, manifest: Manifest, was: EndpointStatus | None, status: EndpointStatus) -> timedelta | None:
        """Writes the status when it changed. Returns how long a change that may wait has to.

        Raises StatusInvalidError: of a decision that cannot be recorded nothing is applied.
        """
        uid = manifest["metadata"]["uid"]
        wait = self.writes.wait(uid, was, status)
        if wait is None:
            return None
        if wait > 0:
            return timedelta(seconds=wait)
        await write_status(self.cluster, self.world, manifest, was or EndpointStatus(), status, self.clock())
        self.writes.written(uid)
        return None

    async def _tell(self, manifest: Manifest, was: EndpointStatus | None, decision: EndpointDecision) -> None:
        for event in decision.events:
            if event.type == "Warning" or event.reason == "TookOver":
                await self.cluster.record(manifest, event)
            if event.reason == "TookOver":
                await self._measure(manifest["metadata"]["namespace"], was or EndpointStatus(), decision.status)

    async def _measure(self, namespace: str, was: EndpointStatus, status: EndpointStatus) -> None:
        """Notes how long a model that passed took to its first request; one that was live before had no gate now."""
        live = status.live
        before = {version.digest for version in [*was.history, *filter(None, [was.live])]}
        if live is None or live.digest in before:
            return
        judged = await self.proofs.judged_at(namespace, live.digest)
        if judged is not None:
            self.metrics.gate_to_live((self.clock() - parse_timestamp(judged)).total_seconds())

    # ------------------------------------------------------------------------------------------------ apply

    async def _try_apply(
        self,
        manifest: Manifest,
        endpoint: ModelEndpoint,
        decision: EndpointDecision,
        seen: ObservedVersions,
        revoked: Set[str],
    ) -> timedelta | None:
        """Applies a decision. What the API server does not take is a condition from the next pass on."""
        uid = manifest["metadata"]["uid"]
        refusals: list[Blocker] = []
        for action in self._actions(endpoint, decision, seen, revoked):
            try:
                await action()
            except (ManifestError, TakenError, QuotaExceeded, Forbidden, Invalid) as error:
                # The rest is applied nevertheless: what is to be stopped may be what the quota waits for.
                refusals.append(Blocker(refusal.CONDITION, refusal.reason(error), str(error)))
        before = self._refused.pop(uid, None)
        if refusals:
            self._refused[uid] = refusals[0]
            later = self._try_again(manifest, refusals[0].reason)
            return later if before == refusals[0] else _AT_ONCE
        self.world.waiting.leave(_key(manifest))
        return _AT_ONCE if before is not None else None

    def _try_again(self, manifest: Manifest, reason: str) -> timedelta:
        """Returns when to try again what the API server did not take, unless an event says so before."""
        metadata = manifest["metadata"]
        created, generation = str(metadata.get("creationTimestamp", "")), int(metadata.get("generation") or 0)
        return self.world.waiting.refused(_key(manifest), reason, created=created, generation=generation)

    def _actions(
        self, endpoint: ModelEndpoint, decision: EndpointDecision, seen: ObservedVersions, revoked: Set[str]
    ) -> Iterator[Action]:
        """Yields what to do, in order: who may reach a version is settled before it runs, it runs before it gets the
        traffic, and ends after it lost it."""
        live, service = decision.status.live, self._service(endpoint)
        if decision.start or seen.objects:
            # Also of what runs: the access of the spec and the operator's own settings may have changed since.
            yield lambda: self.owned.ensure(network_policy(endpoint, self.settings, seen.access()))
        for version in decision.start:
            yield lambda version=version: self.versions.start(endpoint, version, seen)
        route = _route(service, decision, revoked)
        kept = may_come_back(decision.status)
        frozen = {number: text for number, text in seen.frozen.items() if number in kept}
        yield lambda: self.owned.ensure(endpoint_service(endpoint, route, frozen))
        if live is not None:
            yield lambda: self._keep_beside(endpoint, live, seen)
        elif route is None:
            # Of a version that lost the traffic since its key was revoked: nothing is left that it could scale.
            yield lambda: self._remove_autoscaler(endpoint)
        for number in decision.stop:
            yield lambda number=number: self._stop(endpoint, number, decision, seen)

    async def _stop(
        self, endpoint: ModelEndpoint, number: int, decision: EndpointDecision, seen: ObservedVersions
    ) -> None:
        """Ends a version, unless the Service still sends to it because it could not be changed (invariant B)."""
        live = decision.status.live
        makes_room = live is not None and live.version == number
        if makes_room or routed_version(self._service(endpoint)) != number:
            await self.versions.stop(number, seen)

    def _service(self, endpoint: ModelEndpoint) -> Manifest | None:
        metadata = endpoint.metadata
        return self.world.get(SERVICE, metadata.namespace or "", names.service(metadata.name))

    async def _keep_beside(self, endpoint: ModelEndpoint, live: VersionStatus, seen: ObservedVersions) -> None:
        """What belongs to the version with the traffic: its replicas, its autoscaler, its disruption budget."""
        await self.owned.ensure(pod_disruption_budget(endpoint, live.version))
        scaling = autoscaler(endpoint, seen.deployment_name(endpoint.metadata.name, live.version))
        if scaling is not None:
            await self.owned.ensure(scaling)
            return
        await self._remove_autoscaler(endpoint)
        await self.versions.scale(endpoint, live.version, seen)

    async def _remove_autoscaler(self, endpoint: ModelEndpoint) -> None:
        name = names.endpoint(endpoint.metadata.name)
        await self.owned.remove(endpoint_object("autoscaling/v2", "HorizontalPodAutoscaler", name, endpoint))

    def _forget(self, namespace: str, name: str) -> None:
        """Lets go of an endpoint that is gone; one of the same name may be there already."""
        uid = self._uids.pop((namespace, name), "")
        self.world.waiting.leave(Key("ModelEndpoint", namespace, name))
        self.versions.forget(uid)
        self.judgements.forget(namespace, name)
        self.owned.forget(namespace, names.endpoint(name))
        self.writes.forget(uid)
        self._refused.pop(uid, None)


def _key(manifest: Manifest) -> Key:
    return Key("ModelEndpoint", manifest["metadata"]["namespace"], manifest["metadata"]["name"])


def _route(service: Manifest | None, decision: EndpointDecision, revoked: Set[str]) -> int | None:
    """Returns the version that gets the traffic. It stays where it is while nothing says otherwise, unless the version
    that has it lost it since its verdict is signed by a revoked key."""
    if decision.route is not None:
        return decision.route
    there = routed_version(service)
    lost = [version.version for version in decision.status.history if version.signed_by in revoked]
    return None if decision.status.live is None and there in lost else there


def _digests(endpoint: ModelEndpoint) -> set[str]:
    """Every model that could be asked for now."""
    status, model = endpoint.status or EndpointStatus(), endpoint.spec.model
    known = {version.digest for version in [status.live, status.candidate, *status.history] if version is not None}
    return known | ({model.digest} if model is not None else set())


def _next_look(decision: EndpointDecision, seen: ObservedVersions) -> timedelta | None:
    candidate = decision.status.candidate
    if decision.probe is not None:
        return _ASKING
    if candidate is not None and candidate.version in {version.version for version in decision.start}:
        return _STARTING
    live = decision.status.live
    starting = live is not None and live.version in seen.views and seen.views[live.version].state != "Ready"
    return _STARTING if starting else None
