"""What a verdict's record says. The cache has its metadata alone, so it is read once for each of its versions."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

from slipway_operator.cache.world import World
from slipway_operator.kube.cluster import Cluster
from slipway_operator.kube.kinds import CONFIG_MAP
from slipway_operator.kube.manifest import Manifest, Version, at, version
from slipway_operator.manifests.run.verdict_config_map import (
    DIGEST_KEY,
    EVALUATION_NUMBER_KEY,
    GATES_KEY,
    GATES_LIMIT,
    JUDGED_AT_KEY,
    PARITY_DIGEST_KEY,
    PARITY_URI_KEY,
    RUN_KEY,
    RUN_UID_KEY,
    VERDICT_KEY,
)

_SHORT: Final = 100
"""Characters of a digest, and some more."""
_FIELDS: Final = {
    VERDICT_KEY: _SHORT,
    DIGEST_KEY: _SHORT,
    RUN_UID_KEY: _SHORT,
    JUDGED_AT_KEY: _SHORT,
    PARITY_DIGEST_KEY: _SHORT,
    PARITY_URI_KEY: 1024,
    RUN_KEY: _SHORT,
    EVALUATION_NUMBER_KEY: _SHORT,
    GATES_KEY: GATES_LIMIT,
}
"""What is kept of a record, and how many characters at most."""
_KEPT: Final = 4096


@dataclass
class VerdictReader:
    cluster: Cluster
    world: World
    _read: OrderedDict[tuple[str, str], tuple[Version, dict[str, str]]] = field(
        default_factory=OrderedDict[tuple[str, str], tuple[Version, dict[str, str]]]
    )

    async def read(self, namespace: str, name: str) -> dict[str, str]:
        """Returns what the record says: verdict, digest, run, time, record of parity, gates. Empty without one.

        Raises ClusterError.
        """
        known = self.world.get(CONFIG_MAP, namespace, name)
        if known is None:
            return {}
        found = self._read.get((namespace, name))
        if found is None or found[0] != version(known):
            there = await self.cluster.get(CONFIG_MAP, namespace, name)
            return {} if there is None else self.remember(there)
        self._read.move_to_end((namespace, name))
        return found[1]

    def remember(self, record: Manifest) -> dict[str, str]:
        """Takes a record as the API server gave it, with its data. Returns what it says."""
        metadata = record["metadata"]
        said = _short(at(record, "data"))
        self._read[metadata["namespace"], metadata["name"]] = version(record), said
        self._read.move_to_end((metadata["namespace"], metadata["name"]))
        if len(self._read) > _KEPT:
            self._read.popitem(last=False)
        return said


def _short(data: Manifest) -> dict[str, str]:
    return {name: str(data[name])[:longest] for name, longest in _FIELDS.items() if name in data}
