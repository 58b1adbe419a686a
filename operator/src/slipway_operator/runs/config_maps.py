"""The records of runs are ConfigMaps; this is how one goes."""

from __future__ import annotations

from slipway_operator.kube.cluster import Cluster
from slipway_operator.kube.kinds import CONFIG_MAP
from slipway_operator.kube.manifest import Manifest


async def delete(cluster: Cluster, config_map: Manifest) -> None:
    """Deletes it as it was seen: another one of its name stays. Raises ClusterError."""
    metadata = config_map["metadata"]
    await cluster.delete(CONFIG_MAP, metadata["namespace"], metadata["name"], uid=metadata["uid"])
