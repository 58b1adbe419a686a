"""What a pod has of PersistentVolumeClaims: the folder that it writes, and what `pvc://claim/path` names, read-only.

A claim is shared by many runs, and a process that reads data and models of strangers may turn on its neighbors. So no
process gets a whole claim where it is known before what it needs. Each path is where it would be if the whole claim
were mounted: `/workspace/<folder>` and `/claims/<claim>/<path>`.
"""

from __future__ import annotations

import glob
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath
from typing import Final

from slipway_core.protocol.workspace import WORKSPACE_MOUNT
from slipway_core.resources import uris
from slipway_operator.kube.manifest import Manifest

CLAIMS: Final = "/claims"
"""Where a pod has the claims that it reads, each under its name."""
_MOST: Final = 16
"""Paths of one claim that are mounted one by one. A run may name thousands of files, and each mount takes its time when
a pod starts; beyond that it gets the folders that hold them."""


def named(sources: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Returns the claims that these URIs name, sorted, each with the paths that a pod needs of it ("" is all of it)."""
    found: dict[str, set[str]] = {}
    for uri in sources:
        parsed = uris.parse(uri)
        if parsed.scheme == "pvc":
            found.setdefault(parsed.authority, set()).add(sub_path(parsed))
    return {claim: _few(found[claim]) for claim in sorted(found)}


def sub_path(uri: uris.Uri) -> str:
    """Returns what to mount for a URI: what it names, or of a glob the folder in which it looks; "" is the whole claim.

    A snapshot in a cache of the hub is links to files beside it, so it comes with the repository that it is of.
    """
    parts = PurePosixPath(uri.path.lstrip("/")).parts
    fixed = next((n for n, part in enumerate(parts) if glob.has_magic(part) or ":" in part), len(parts))
    for n in range(fixed - 1):
        if "--" in parts[n] and parts[n + 1] == "snapshots":
            fixed = n + 1
            break
    return "/".join(parts[:fixed])


def path(claim: str, sub: str) -> str:
    """Returns where a pod has a path of a claim that it reads."""
    return f"{CLAIMS}/{claim}/{sub}" if sub else f"{CLAIMS}/{claim}"


def volumes(workspace: str, read: Iterable[str]) -> list[Manifest]:
    """Returns one volume a claim; a claim that is both written and read is one volume with several mounts."""
    others = _numbered(workspace, read)
    return [
        {"name": "workspace", "persistentVolumeClaim": {"claimName": workspace}},
        *(
            {"name": volume, "persistentVolumeClaim": {"claimName": claim, "readOnly": True}}
            for claim, volume in others.items()
            if claim != workspace
        ),
    ]


def mounts(workspace: str, folder: str, read: Mapping[str, Iterable[str]]) -> list[Manifest]:
    """Returns the mounts of a process: its folder of the workspace, and what it reads."""
    return [
        {"name": "workspace", "mountPath": f"{WORKSPACE_MOUNT}/{folder}", "subPath": folder},
        *(
            {"name": volume, "mountPath": path(claim, sub), "readOnly": True, **({"subPath": sub} if sub else {})}
            for claim, volume in _numbered(workspace, read).items()
            for sub in read[claim]
        ),
    ]


def whole_workspace() -> Manifest:
    """Returns the mount of the whole claim, for what makes or removes a folder in it."""
    return {"name": "workspace", "mountPath": WORKSPACE_MOUNT}


def whole(workspace: str, read: Iterable[str]) -> list[Manifest]:
    """Returns the mounts of whole claims that are read, for what looks whether the paths in them are there."""
    return [
        {"name": volume, "mountPath": path(claim, ""), "readOnly": True}
        for claim, volume in _numbered(workspace, read).items()
    ]


def as_whole(mounts: Iterable[Manifest]) -> list[Manifest]:
    """Returns mounts as releases made them that gave a pod whole claims: the same paths, and more beside them."""
    found: dict[str, Manifest] = {}
    for mount in mounts:
        tail = f"/{mount['subPath']}" if "subPath" in mount else ""
        fields = {name: value for name, value in mount.items() if name != "subPath"}
        where = str(mount["mountPath"]).removesuffix(tail)
        found.setdefault(where, {**fields, "mountPath": where})
    return list(found.values())


def _few(paths: Iterable[str]) -> tuple[str, ...]:
    outermost = _outermost(paths)
    while len(outermost) > _MOST:
        outermost = _outermost(sub.rpartition("/")[0] for sub in outermost)
    return outermost


def _outermost(paths: Iterable[str]) -> tuple[str, ...]:
    """Returns the paths without those that lie in another one, sorted."""
    found: list[str] = []
    for sub in sorted(set(paths), key=lambda sub: PurePosixPath(sub).parts):
        if not found or (found[-1] and not f"{sub}/".startswith(f"{found[-1]}/")):
            found.append(sub)
    return tuple(found)


def _numbered(workspace: str, read: Iterable[str]) -> dict[str, str]:
    """Volumes are numbered: a claim's name may be longer than the name of a volume, and have dots."""
    names = sorted(set(read))
    return {claim: "workspace" if claim == workspace else f"claim-{n}" for n, claim in enumerate(names)}
