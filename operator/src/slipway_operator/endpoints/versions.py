"""Versions of an endpoint as Deployments of the cluster: observed, started, scaled and stopped. The twin of the local
version server."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

from slipway_core.resources.conditions import Blocker, parse_timestamp
from slipway_core.resources.model_endpoint import Access, EndpointTemplate, ModelEndpoint
from slipway_core.resources.status import EndpointStatus, VersionStatus
from slipway_core.rollout.observed import VersionView
from slipway_operator import names
from slipway_operator.cache.world import World
from slipway_operator.common.owned_objects import check_owner
from slipway_operator.common.warning_events import WarningEvents
from slipway_operator.endpoints import observe as observe_version
from slipway_operator.endpoints.observe import VersionObjects
from slipway_operator.endpoints.proofs import Proofs
from slipway_operator.kube.cluster import Cluster
from slipway_operator.kube.errors import AlreadyExists, Conflict
from slipway_operator.kube.kinds import DEPLOYMENT, POD, SERVICE
from slipway_operator.kube.manifest import Manifest, at, items, labels, notes
from slipway_operator.manifests.endpoint.deployment import access_of, as_frozen, scaled, version_deployment
from slipway_operator.manifests.endpoint.service import frozen_versions
from slipway_operator.manifests.errors import ManifestError
from slipway_operator.manifests.pod import template
from slipway_operator.settings import Settings

_PATIENCE = timedelta(seconds=8)
"""A pod that is on a node and does not start for so long has its Events read, which alone say why."""


class Answers(Protocol):
    async def answers(self, pod: Manifest) -> tuple[bool | None, str, bool | None]: ...


@dataclass(frozen=True)
class ObservedVersions:
    """What a look at an endpoint's Deployments and pods found."""

    objects: dict[int, VersionObjects]
    views: dict[int, VersionView]
    blockers: tuple[Blocker, ...]
    frozen: Mapping[int, str] = field(default_factory=dict[int, str])
    """What versions were made of, as their Deployments say, or the Service of those that have none."""
    look_again: timedelta | None = None

    def access(self) -> list[Access]:
        """Returns whom the versions that run were made to answer, as far as their Deployments say."""
        found = [access_of(text) for number, text in self.frozen.items() if number in self.objects]
        return [access for access in found if access is not None]

    def deployment_name(self, endpoint: str, number: int) -> str:
        """Returns what the Deployment of a version is called; one that another release made keeps its name."""
        one = self.objects.get(number)
        made = one.deployment if one is not None else None
        return names.version(endpoint, number) if made is None else str(made["metadata"]["name"])


@dataclass
class Versions:
    cluster: Cluster
    world: World
    settings: Settings
    pods: Answers
    proofs: Proofs
    clock: Callable[[], datetime]
    _known: dict[str, dict[int, Manifest]] = field(default_factory=dict[str, dict[int, Manifest]])
    """The Deployments of the versions that may have to be made again, byte for byte; by the uid of their endpoint. A
    new process has only their settings, from the Service."""
    warnings: WarningEvents = field(init=False)

    def __post_init__(self) -> None:
        self.warnings = WarningEvents(self.cluster, self.clock)

    async def observe(self, endpoint: ModelEndpoint, manifest: Manifest) -> ObservedVersions:
        """Looks at the versions' Deployments and pods."""
        status, now = endpoint.status or EndpointStatus(), self.clock()
        objects = self._objects(manifest)
        views: dict[int, VersionView] = {}
        found: dict[str, Blocker] = {}
        look_again: timedelta | None = None
        for number, one in objects.items():
            candidate = status.candidate is not None and number == status.candidate.version
            hindrances = await self._hindrances(one, now) if number in _wanted(status) else ()
            view = observe_version.view(one, now, hindrances)
            if view is None:
                continue
            views[number] = view
            look_again = look_again or observe_version.unready_again_after(one, now)
            for blocker in hindrances:
                told = _of_candidate(blocker, status) if candidate else blocker
                found.setdefault(told.type, told)
        candidate = status.candidate
        if candidate is not None and candidate.version not in views and (why := self._unbuildable(endpoint, candidate)):
            views[candidate.version] = VersionView("Failed", why)
        self._remember(manifest["metadata"]["uid"], status, objects)
        return ObservedVersions(objects, views, tuple(found.values()), self._frozen(manifest, objects), look_again)

    async def ask(self, seen: ObservedVersions, number: int) -> None:
        """Asks a ready version a prompt, or reads the answer; it is in the view afterwards."""
        ready = seen.objects[number].ready_pods
        if not ready:
            return
        answered, why, parity = await self.pods.answers(ready[0])
        view = seen.views[number]
        message, unknown = (view.message, why) if answered else (why or view.message, "")
        seen.views[number] = VersionView(view.state, message, answered, view.waits, view.began, parity, unknown)

    async def start(self, endpoint: ModelEndpoint, version: VersionStatus, seen: ObservedVersions) -> None:
        """Creates the Deployment of a version; one that exists is left alone, whatever the settings say by now.

        Raises ManifestError for settings that cannot be had on a cluster, or where no statement lets its model through
        any more; Conflict; and ClusterError.
        """
        one = seen.objects.get(version.version)
        if one is not None and one.deployment is not None:
            return
        manifest = await self._deployment(endpoint, version, seen)
        try:
            self.world.put(await self.cluster.create(manifest))
        except AlreadyExists:
            there = await self.cluster.get(DEPLOYMENT, manifest["metadata"]["namespace"], manifest["metadata"]["name"])
            if there is None or "deletionTimestamp" in there["metadata"]:
                raise Conflict(f"Deployment {manifest['metadata']['name']} is just going") from None
            check_owner(there, manifest)
            self.world.put(there)

    async def scale(self, endpoint: ModelEndpoint, number: int, seen: ObservedVersions) -> None:
        """Gives the version with the traffic the replicas that the spec says; an autoscaler's are its own."""
        one = seen.objects.get(number)
        wanted = replicas_of(endpoint.spec)
        if wanted is None or one is None or one.deployment is None or one.replicas == wanted:
            return
        self.world.put(await self.cluster.apply(scaled(one.deployment, wanted)))

    async def stop(self, number: int, seen: ObservedVersions) -> None:
        """Ends a version; its pods linger and drain. Asking twice asks once."""
        one = seen.objects.get(number)
        if one is None or one.deployment is None or "deletionTimestamp" in one.deployment["metadata"]:
            return
        metadata = one.deployment["metadata"]
        await self.cluster.delete(DEPLOYMENT, metadata["namespace"], metadata["name"], uid=metadata["uid"])
        self.world.remove(one.deployment)

    def forget(self, uid: str) -> None:
        """Lets go of an endpoint that is gone."""
        self._known.pop(uid, None)

    def _objects(self, manifest: Manifest) -> dict[int, VersionObjects]:
        metadata = manifest["metadata"]
        namespace, name = metadata["namespace"], metadata["name"]
        deployments = {
            number: deployment
            for deployment in self.world.of_endpoint(DEPLOYMENT, namespace, name)
            if _is_of(deployment, metadata["uid"])
            and (number := _number(deployment))
            and deployment["metadata"]["name"] in names.versions(name, number)
        }
        pods: dict[int, list[Manifest]] = {}
        for pod in self.world.of_endpoint(POD, namespace, name):
            # Those of an endpoint of the same name that was deleted may still drain.
            if (number := _number(pod)) and _age(pod) >= _age(manifest):
                pods.setdefault(number, []).append(pod)
        return {
            number: VersionObjects(deployments.get(number), tuple(pods.get(number, ())))
            for number in sorted({*deployments, *pods})
        }

    async def _hindrances(self, one: VersionObjects, now: datetime) -> tuple[Blocker, ...]:
        found = observe_version.blockers_of(one, now, node_lost_after=self.settings.node_lost_seconds)
        if found:
            return found
        silent = observe_version.silent_pod(one, now, _PATIENCE)
        return await self.warnings.blockers(silent) if silent is not None else ()

    def _unbuildable(self, endpoint: ModelEndpoint, candidate: VersionStatus) -> str | None:
        try:
            version_deployment(endpoint, candidate, settings=self.settings, replicas=1)
        except ManifestError as error:
            # The chart may get the template: the candidate waits, and the condition Refused says for what.
            return None if error.reason == template.UNKNOWN else str(error)
        return None

    async def _deployment(self, endpoint: ModelEndpoint, version: VersionStatus, seen: ObservedVersions) -> Manifest:
        status = endpoint.status or EndpointStatus()
        live = status.live
        replicas = _replicas_to_start(endpoint.spec, seen.objects.get(live.version) if live is not None else None)
        known = self._known.get(endpoint.metadata.uid or "", {}).get(version.version)
        if known is not None and as_frozen(endpoint, version, _frozen_of(known)) is not None:
            return scaled(known, replicas)
        made_of = as_frozen(endpoint, version, seen.frozen.get(version.version, ""))
        statement = await self.proofs.environment(endpoint.metadata.namespace or "", version)
        return version_deployment(
            made_of or endpoint, version, settings=self.settings, replicas=replicas, statement=statement
        )

    def _frozen(self, manifest: Manifest, objects: Mapping[int, VersionObjects]) -> dict[int, str]:
        metadata = manifest["metadata"]
        service = self.world.get(SERVICE, metadata["namespace"], names.service(metadata["name"]))
        kept = frozen_versions(service) if service is not None and _is_of(service, metadata["uid"]) else {}
        there = {number: one.deployment for number, one in objects.items() if one.deployment is not None}
        return kept | {number: text for number, deployment in there.items() if (text := _frozen_of(deployment))}

    def _remember(self, uid: str, status: EndpointStatus, objects: Mapping[int, VersionObjects]) -> None:
        known = self._known.get(uid, {})
        now = {number: one.deployment for number, one in objects.items() if one.deployment is not None}
        self._known[uid] = {
            number: deployment for number, deployment in {**known, **now}.items() if number in may_come_back(status)
        }


def may_come_back(status: EndpointStatus) -> set[int]:
    """Returns the versions that may have to be made again as they were: the live one, and the one before it until the
    live one has stood its probation."""
    standby = [version for version in status.history if version.state == "Standby"]
    return {version.version for version in [status.live, *standby] if version is not None}


def replicas_of(spec: EndpointTemplate) -> int | None:
    """Returns the replicas that a spec says; None where an autoscaler decides."""
    if spec.autoscaling is not None:
        return None
    return 1 if spec.replicas is None else spec.replicas


def _replicas_to_start(spec: EndpointTemplate, live: VersionObjects | None) -> int:
    """As many as the live version has, so that the take-over costs no capacity; one at the least, to be asked."""
    said = replicas_of(spec)
    if said is not None:
        return max(1, said)
    assert spec.autoscaling is not None
    now = live.replicas if live is not None and live.deployment is not None else 0
    return min(spec.autoscaling.max_replicas, max(spec.autoscaling.min_replicas, now))


def _wanted(status: EndpointStatus) -> set[int]:
    return {version.version for version in (status.live, status.candidate) if version is not None}


def _of_candidate(blocker: Blocker, status: EndpointStatus) -> Blocker:
    if blocker.type != "Unschedulable":
        return blocker
    kept = (
        f". Version {status.live.version} stays live meanwhile; free room for both, or accept a gap with "
        "rollout.strategy: Recreate"
        if status.live is not None
        else ""
    )
    return Blocker("CandidateUnschedulable", blocker.reason, f"{blocker.message.rstrip('. ')}{kept}")


def _number(manifest: Manifest) -> int | None:
    number = labels(manifest).get(names.VERSION, "")
    return int(number) if number.isdigit() else None


def _frozen_of(deployment: Manifest) -> str:
    return notes(deployment).get(names.FROZEN, "")


def _is_of(manifest: Manifest, uid: str) -> bool:
    """Whether it is not of an endpoint of the same name that was deleted."""
    return uid in [owner.get("uid") for owner in items(manifest, "metadata", "ownerReferences")]


def _age(manifest: Manifest) -> datetime:
    return parse_timestamp(at(manifest, "metadata")["creationTimestamp"])
