"""What the API server's own audit log says about who wrote what."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

WRITES = ("create", "update", "patch", "delete")
OPERATOR = "system:serviceaccount:slipway-system:slipway-operator"


def writes(log: Path, user: str = OPERATOR) -> list[dict[str, Any]]:
    """Returns the writes of a user that succeeded, without Leases."""
    found = []
    with log.open() as lines:
        for line in lines:
            if user not in line:
                continue
            row = json.loads(line)
            wrote = row.get("verb") in WRITES and row.get("stage") == "ResponseComplete"
            code = row.get("responseStatus", {}).get("code", 0)
            if wrote and row["user"]["username"] == user and code < 300 and row["objectRef"]["resource"] != "leases":
                found.append(row)
    return found


def summary(rows: list[dict[str, Any]]) -> Counter[str]:
    """Returns how many writes there were of each kind: `create jobs`, `update trainingruns/status`."""
    names = []
    for row in rows:
        ref = row["objectRef"]
        names.append(f"{row['verb']} {ref['resource']}{'/' + ref['subresource'] if ref.get('subresource') else ''}")
    return Counter(names)
