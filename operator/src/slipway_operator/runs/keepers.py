"""Who keeps what a run has left that is gone: endpoints that serve its model or may go back to it, runs that start from
it, and a run that uses its folder. Of one namespace, as it is at one moment."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple, Self

from slipway_core.resources.status import Phase
from slipway_core.resources.training_run import Retention
from slipway_operator import names
from slipway_operator.cache.world import World
from slipway_operator.kube.kinds import CONFIG_MAP, JOB, MODEL_ENDPOINT, TRAINING_RUN
from slipway_operator.kube.manifest import Manifest, at, items, labels, notes
from slipway_operator.runs.orphan import Orphan

_OVER = (Phase.SERVING, Phase.COMPLETED, Phase.REJECTED)
"""Phases of a run that makes no step any more. One that is Failed or Held goes on when it is told to."""
_FOLDER: Final = re.compile(r"pvc://[^/]+/[^/]+/")


class _Use(NamedTuple):
    """An endpoint that names something of a folder."""

    endpoint: str
    keep: int
    """How many earlier versions of it stay, by the runs that there are for it."""
    earlier: int
    """How many versions in its history are newer than this one; -1 for what it serves, starts or was told."""


@dataclass(frozen=True)
class Keepers:
    world: World
    namespace: str
    uses: dict[str, list[_Use]]
    """By folder, as URIs begin that name something of it."""
    living: frozenset[str]
    """Folders that runs use which there are, and those that they may use: their own."""

    @classmethod
    def of(cls, world: World, namespace: str) -> Self:
        uses: dict[str, list[_Use]] = defaultdict(list)
        for endpoint in world.all(MODEL_ENDPOINT, namespace):
            keep = _kept_versions(world, namespace, _name(endpoint))
            for uri, earlier in _named(endpoint):
                if (folder := _FOLDER.match(uri)) is not None:
                    uses[folder[0]].append(_Use(_name(endpoint), keep, earlier))
        return cls(world, namespace, uses, frozenset(_living(world, namespace)))

    def serving(self, orphan: Orphan) -> list[str]:
        """Returns the endpoints that serve the run's artifact, or are to be able to go back to it.

        A record alone never has an endpoint keep fewer versions than the default: somebody else may have written it.
        """
        if self.world.all_aside(MODEL_ENDPOINT, self.namespace):
            return ["endpoints with the condition TooMany"]  # Nobody knows what those serve.
        own = self.uses.get(orphan.uri, ())
        kept = [f"endpoint {use.endpoint}" for use in own if use.earlier < max(use.keep, orphan.keep_artifacts)]
        return list(dict.fromkeys(kept))

    def starting(self, orphan: Orphan) -> list[str]:
        """Returns the runs that start from this one's model and are under way, or that a person may have go on."""
        if self.world.all_aside(TRAINING_RUN, self.namespace):
            return ["runs with the condition TooMany"]
        found = self.world.starting_from(self.namespace, orphan.uri, f"run://{orphan.name}")
        return [f"run {_name(run)}" for run in found if at(run, "status").get("phase") not in _OVER]

    def may_be_adopted(self, orphan: Orphan) -> bool:
        """Whether there is a run of that name which has no plan yet, or of which nothing says where it is: it may go on
        in the folder."""
        same = self.world.get(TRAINING_RUN, self.namespace, orphan.name)
        if same is None or not is_nowhere(same):
            return same is not None and is_unplanned(same)
        record = names.plan(_name(same), same["metadata"]["uid"])
        return self.world.get(CONFIG_MAP, self.namespace, record) is None


def folders_of(run: Manifest) -> set[str]:
    """Returns how URIs begin that name something of a run that there is: of its own folder, and of the one that it was
    planned with, which may be an earlier run's."""
    metadata, folder = run["metadata"], at(run, "status").get("folder")
    claim = at(run, "spec", "storage").get("claimName") or names.WORKSPACE_CLAIM
    own = names.run_folder(metadata["name"], metadata["uid"])
    return {f"pvc://{claim}/{name}/" for name in (own, folder) if name}


def is_unplanned(run: Manifest) -> bool:
    return not at(run, "status").get("planDigest")


def is_nowhere(run: Manifest) -> bool:
    """Whether a run is planned and its status does not say where it is: its record and its Jobs do."""
    return not is_unplanned(run) and not at(run, "status").get("folder")


def _living(world: World, namespace: str) -> Iterator[str]:
    uids: set[str] = set()
    for run in world.all(TRAINING_RUN, namespace):
        yield from folders_of(run)
        uids.add(run["metadata"]["uid"])
        if is_nowhere(run):
            for job in world.of_run(JOB, namespace, run["metadata"]["uid"]):
                if place := notes(job).get(names.FOLDER):
                    yield f"pvc://{place}/"
    for record in world.records(namespace, "plan"):
        # Of a run that goes on in an earlier one's folder, and has not said so in its status yet.
        if labels(record).get(names.RUN_UID) in uids and (place := notes(record).get(names.FOLDER)):
            yield f"pvc://{place}/"


def _kept_versions(world: World, namespace: str, endpoint: str) -> int:
    """Returns how many earlier versions of an endpoint stay: as many as any run wants that there is for it, the default
    where there is none. A record is as old as its plan; what was edited since is on the living runs alone."""
    wanted = [at(run, "spec", "retention").get("keepArtifacts") for run in world.runs_for(namespace, endpoint)]
    default = Retention().keep_artifacts
    return max((int(keep) if keep else default for keep in wanted), default=default)


def _named(endpoint: Manifest) -> Iterator[tuple[str, int]]:
    """Yields the artifacts of an endpoint: what it serves, starts and was told to, and its history."""
    status = at(endpoint, "status")
    for version in (at(status, "live"), at(status, "candidate"), at(endpoint, "spec", "model")):
        yield str(version.get("uri", "")), -1
    history = [version for version in items(status, "history") if version.get("state") != "Failed"]
    for earlier, version in enumerate(history):
        yield str(version.get("uri", "")), earlier


def _name(manifest: Manifest) -> str:
    return str(manifest["metadata"]["name"])
