"""Who wrote what, from the API server's own audit log."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

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
