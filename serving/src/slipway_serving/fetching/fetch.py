"""Brings a model from where it is stored into a folder, whole and verified, or not at all."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from fnmatch import fnmatch
from pathlib import Path

from slipway_core.protocol import artifact
from slipway_core.protocol.artifact import ArtifactError, Manifest
from slipway_serving.fetching.model_source import ModelSource

INCOMING = ".incoming"
"""Folder in the target in which everything is collected. While it is there, the rest of the target is unfinished."""
PARALLEL = 4
_NO_PLAN = "sha256:" + "0" * 64


class FetchError(Exception):
    """The model may not be fetched, or has no room: the message names it and says what to do."""


def fetch(
    source: ModelSource,
    uri: str,
    folder: Path,
    *,
    digest: str | None,
    accept_unjudged: bool,
    now: datetime,
) -> Manifest:
    """Puts the model into a folder that is empty, or that an earlier fetch of it has filled or left unfinished.

    Of a model without a manifest (a bare repository of the hub) the files that models are loaded from are taken, and
    a manifest is written for them. Its digest is that of those files, so `digest` pins such a model too.

    Args:
        digest: what the model must have (sha256:HEX); None takes what is there.
        accept_unjudged: take a model that has no manifest, and so no run that has judged it, without a digest.

    Raises SourceError, FetchError, ArtifactError, or OSError of the folder.
    """
    if (there := _already(folder, digest)) is not None:
        return there
    incoming = _cleared(folder)
    offered = source.files()
    judged = artifact.MANIFEST in offered
    if judged:
        source.download(artifact.MANIFEST, incoming / artifact.MANIFEST)
        names = _named(artifact.read(incoming), offered, uri)
    elif digest is None and not accept_unjudged:
        raise FetchError(
            f"{uri}: has no {artifact.MANIFEST}, so nothing says that it passed a gate. Name its digest, or say that "
            "it may be served all the same (--accept-unjudged; model.acceptUnjudged of the endpoint)"
        )
    else:
        names = sorted(name for name in offered if _loadable(name))
        if not names:
            raise FetchError(f"{uri}: holds no file of a model ({', '.join(artifact.MODEL_FILES)})")
    _check_room(folder, {name: offered[name] for name in names}, uri)
    _download(source, names, incoming)
    if not judged:
        made = artifact.build(
            incoming, run="", plan_digest=_NO_PLAN, created_at=now.isoformat(), lineage={"fetched": uri}
        )
        (incoming / artifact.MANIFEST).write_text(artifact.dump(made), encoding="utf-8")
    manifest = artifact.verify(incoming, digest)
    _finish(incoming, folder)
    return manifest


def summary(manifest: Manifest) -> str:
    """Returns one line of JSON: the digest, the number of files, their bytes."""
    size = sum(entry.size for entry in manifest.files.values())
    return json.dumps({"digest": manifest.digest, "files": len(manifest.files), "bytes": size})


def _already(folder: Path, digest: str | None) -> Manifest | None:
    """Returns the manifest of what an earlier fetch left here, when it is whole and the one that is asked for."""
    if (folder / INCOMING).exists() or not (folder / artifact.MANIFEST).exists():
        return None
    return artifact.verify(folder, digest)


def _cleared(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    incoming = folder / INCOMING
    others = [entry for entry in folder.iterdir() if entry != incoming]
    if others and not incoming.exists():
        raise FetchError(f"{folder}: is not empty ({others[0].name}); name an empty folder")
    for entry in (*others, incoming):
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink(missing_ok=True)
    incoming.mkdir()
    return incoming


def _named(manifest: Manifest, offered: Mapping[str, int], uri: str) -> list[str]:
    for name in manifest.files:
        try:
            artifact.check_name(name, reserved=INCOMING)
        except ArtifactError as error:
            raise FetchError(f"{uri}: {error}") from None
        if name not in offered:
            raise ArtifactError(f"{uri}: the manifest names {name} and it is missing. Export the model again.")
    return list(manifest.files)


def _loadable(name: str) -> bool:
    # Files of the top folder alone: a repository's subfolders hold other formats and checkpoints of the same model.
    return "/" not in name and any(fnmatch(name, pattern) for pattern in artifact.MODEL_FILES)


def _check_room(folder: Path, sizes: Mapping[str, int], uri: str) -> None:
    needed, free = sum(sizes.values()), shutil.disk_usage(folder).free
    if needed > free:
        raise FetchError(f"{uri}: has {needed:,} bytes, and {folder} has room for {free:,}; give it a larger volume")


def _download(source: ModelSource, names: list[str], incoming: Path) -> None:
    targets = [incoming / name for name in names]
    for target in targets:
        target.parent.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(PARALLEL) as pool:
        for done in [pool.submit(source.download, *pair) for pair in zip(names, targets, strict=True)]:
            done.result()


def _finish(incoming: Path, folder: Path) -> None:
    """Moves everything to its place. The marker goes last: whoever comes after a crash in between starts again."""
    for entry in sorted(incoming.iterdir()):
        entry.rename(folder / entry.name)
    incoming.rmdir()
