"""PersistentVolumeClaims of a pod: the one it writes to, and those that `pvc://claim/path` names."""

from __future__ import annotations

from collections.abc import Iterable

from slipway_core.protocol.workspace import WORKSPACE_MOUNT
from slipway_core.resources import uris
from slipway_operator.kube.manifest import Manifest

CLAIMS = "/claims"
"""Where a pod has the claims that it reads, each under its name."""


def named(sources: Iterable[str]) -> list[str]:
    """Returns the claims that these URIs name, sorted."""
    parsed = [uris.parse(uri) for uri in sources]
    return sorted({uri.authority for uri in parsed if uri.scheme == "pvc"})


def volumes(workspace: str, read: Iterable[str]) -> list[Manifest]:
    """Returns one volume a claim; a claim that is both written and read is one volume with two mounts."""
    others = _numbered(workspace, read)
    return [
        {"name": "workspace", "persistentVolumeClaim": {"claimName": workspace}},
        *(
            {"name": volume, "persistentVolumeClaim": {"claimName": claim, "readOnly": True}}
            for claim, volume in others.items()
            if claim != workspace
        ),
    ]


def mounts(workspace: str, read: Iterable[str]) -> list[Manifest]:
    return [
        {"name": "workspace", "mountPath": WORKSPACE_MOUNT},
        *(
            {"name": volume, "mountPath": f"{CLAIMS}/{claim}", "readOnly": True}
            for claim, volume in _numbered(workspace, read).items()
        ),
    ]


def _numbered(workspace: str, read: Iterable[str]) -> dict[str, str]:
    """Volumes are numbered: a claim's name may be longer than the name of a volume, and have dots."""
    names = sorted(set(read))
    return {claim: "workspace" if claim == workspace else f"claim-{n}" for n, claim in enumerate(names)}
