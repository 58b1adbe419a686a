"""Labels and names of what Slipway makes in a cluster: the operator writes them, the command line finds it by them."""

from __future__ import annotations

import hashlib
from typing import Final

from slipway_core.resources.api import GROUP

MANAGED_BY: Final = "app.kubernetes.io/managed-by"
MANAGED_BY_VALUE: Final = "slipway"
CLIENT_VALUE: Final = "slipway-cli"
"""Value of MANAGED_BY on the short-lived pods of the command line: the operator's own is refused to everybody else."""
RUN: Final = f"{GROUP}/run"
RUN_UID: Final = f"{GROUP}/run-uid"
ROLE: Final = f"{GROUP}/role"
"""plan, step, verdict, cleanup or serve; upload and read for the short-lived pods of the command line."""
STEP: Final = f"{GROUP}/step"
ATTEMPT: Final = f"{GROUP}/attempt"
ENDPOINT: Final = f"{GROUP}/endpoint"
VERSION: Final = f"{GROUP}/version"
DIGEST: Final = f"{GROUP}/digest"
"""Of the record of a judgement: the first 63 hex digits of the digest of the model that was judged."""

ORPHANED_AT: Final = f"{GROUP}/orphaned-at"
"""Annotation of a plan's record whose run is gone: since when nothing keeps what is to go of its folder next."""
KEPT_BY: Final = f"{GROUP}/kept-by"
"""Annotation of such a record: who keeps the model in the folder, for people."""
REMOVING: Final = f"{GROUP}/removing"
"""Annotation of such a record: since when something of its folder may be gone. No run goes on in it."""
FOLDER: Final = f"{GROUP}/folder"
"""Annotation of such a record, of one whose run goes on in an earlier one's folder, and of a step's Job: the folder in
which it works, `CLAIM/FOLDER`."""

LIMIT: Final = 63
"""Characters of a label's value."""
_HASH: Final = 8


def join(*parts: str, limit: int = LIMIT) -> str:
    """Returns the parts joined by `-`; what is too long is cut and told apart by a hash of the whole."""
    whole = "-".join(parts)
    if len(whole) <= limit:
        return whole
    digest = hashlib.sha256(whole.encode()).hexdigest()[:_HASH]
    return f"{whole[: limit - _HASH - 1].rstrip('-.')}-{digest}"


def label(value: str) -> str:
    """Returns a text as a label's value: at most 63 characters, told apart by a hash when it was cut."""
    return join(value)


def digest_label(digest: str) -> str:
    """Returns the value of the label DIGEST."""
    return digest.removeprefix("sha256:")[:LIMIT]


def service(name: str) -> str:
    """Returns the name of an endpoint's Service: called like it where a Service may be. A Service's name starts with a
    letter, other than all other names; the hash keeps `7b` apart from `s-7b`."""
    return name if name[0].isalpha() else join(f"s{hashlib.sha256(name.encode()).hexdigest()[:_HASH]}", name)
