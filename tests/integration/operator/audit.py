"""Who wrote what, from the API server's own audit log."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from tests.integration.api_client import Manifest, eventually

OPERATOR = "system:serviceaccount:slipway-system:slipway-operator"


@dataclass(frozen=True)
class Write:
    actor: str
    verb: str
    resource: str
    """With its subresource: trainingruns/status."""
    namespace: str
    name: str
    code: int

    @property
    def done(self) -> bool:
        return 200 <= self.code < 300


def writes(audit_log: Path, namespace: str | None = None) -> Iterator[Write]:
    """Yields every write in order; of one namespace where one is given."""
    with audit_log.open() as lines:
        for line in lines:
            event = json.loads(line)
            about = event.get("objectRef", {})
            if namespace in (None, about.get("namespace")):
                resource = "/".join(filter(None, (about.get("resource", ""), about.get("subresource"))))
                code = event.get("responseStatus", {}).get("code", 0)
                yield Write(
                    event["user"]["username"],
                    event["verb"],
                    resource,
                    about.get("namespace", ""),
                    about.get("name", ""),
                    code,
                )


def by_operator(found: Iterable[Write]) -> list[Write]:
    """Returns the operator's writes; its Lease is left out."""
    return [one for one in found if one.actor == OPERATOR and one.resource != "leases"]


def settled(audit_log: Path, namespace: str, quiet: float = 3.0) -> list[Write]:
    """Waits until the operator has written nothing in a namespace for some seconds. Returns all that it wrote there."""
    known: list[Write] = []
    since = time.monotonic()

    def is_quiet() -> bool:
        nonlocal known, since
        found = by_operator(writes(audit_log, namespace))
        if len(found) != len(known):
            known, since = found, time.monotonic()
        return time.monotonic() - since > quiet

    eventually(is_quiet, f"the operator is quiet in {namespace}", 60, every=0.25)
    return known


def progress_writes(versions: Iterable[Manifest]) -> int:
    """Returns how many of the versions of one run, in order, tell of a step's progress and of nothing else.

    The words of a condition may say how far a step is; a change of theirs counts only beside one of the progress.
    """
    statuses = [version.get("status", {}) for version in versions]
    return sum(
        _progress(was) != _progress(now) and _but_progress(was) == _but_progress(now) for was, now in pairwise(statuses)
    )


def _progress(status: Manifest) -> list[Manifest | None]:
    return [stage.get("progress") for stage in status.get("stages", [])]


def _but_progress(status: Manifest) -> Manifest:
    stages = [{**stage, "progress": None} for stage in status.get("stages", [])]
    conditions = [{**condition, "message": ""} for condition in status.get("conditions", [])]
    return {**status, "stages": stages, "conditions": conditions}
