"""Objects as an API server tells of them, for the tests of the cache, the queue and the handlers."""

from __future__ import annotations

from typing import Any

from slipway_operator import names
from slipway_operator.kube.kinds import Kind
from slipway_operator.kube.manifest import Manifest

RUN_UID = "0b5e1a52-7f0e-4f6e-9d56-0b6a1c7f3c11"


def an_object(
    kind: Kind,
    name: str,
    version: int = 1,
    *,
    uid: str | None = None,
    labels: dict[str, str] | None = None,
    namespace: str = "team",
    **fields: Any,
) -> Manifest:
    metadata = {
        "name": name,
        "namespace": namespace,
        "uid": uid or f"uid-of-{name}",
        "resourceVersion": str(version),
        "labels": labels or {},
    }
    return {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata, **fields}


def of_run(uid: str = RUN_UID, run: str = "demo") -> dict[str, str]:
    """Labels of what belongs to a run."""
    return names.run_labels(run, uid, "step")
