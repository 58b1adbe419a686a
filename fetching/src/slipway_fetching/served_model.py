"""Brings a model from where it is stored into the folder of a server, whole and verified, or not at all."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

from slipway_core.protocol import artifact
from slipway_core.protocol.artifact import Manifest
from slipway_fetching.errors import Refused
from slipway_fetching.open_store import open_store
from slipway_fetching.requester import Requester
from slipway_fetching.stored_model import StoredModel
from slipway_fetching.stored_object import Store

INCOMING = ".incoming"
"""Folder in the target in which everything is collected. While it is there, the rest of the target is unfinished."""
REQUESTER = Requester(
    credentials="model.credentials of the endpoint",
    more_room="Free space there, or give the server a larger volume",
    # A version fails for good at the third end of its fetch.
    patience=timedelta(minutes=3),
)
_HUB = "hub"
_NO_PLAN = "sha256:" + "0" * 64


def store_for(uri: str, folder: Path) -> Store:
    """Returns the store of a URI, for a fetch into a folder. What the hub's library keeps is on the folder's disk too,
    so that a file takes its room once and a fetch that was killed finds it. Raises Misconfigured."""
    return open_store(uri, REQUESTER, folder / INCOMING / _HUB)


def fetch(
    store: Store,
    uri: str,
    folder: Path,
    *,
    digest: str | None,
    accept_unjudged: bool,
    now: datetime,
    say: Callable[[str], None] = lambda _: None,
) -> Manifest:
    """Puts the model into a folder that is empty, or that an earlier fetch of it has filled or left unfinished.

    Killed in between, it goes on with what is there, unless something else lies at the URI by then. Of a model without
    a manifest (a bare repository of the hub) the files that models are loaded from are taken, and a manifest is
    written for them. Its digest is that of those files, so `digest` pins such a model too.

    Args:
        digest: what the model must have (sha256:HEX); None takes what is there.
        accept_unjudged: take a model that has no manifest, and so no run that has judged it, without a digest.
        say: told what is fetched.

    Raises a FetchError, ArtifactError when the folder holds another model already, or OSError of the folder.
    """
    if (there := _already(folder, digest)) is not None:
        return there
    _require_empty(folder)
    model = StoredModel(store, uri, REQUESTER)
    incoming = _cleared(folder, model.state)
    judged = model.manifest(incoming, reserved=INCOMING)
    _require_right_to_serve(uri, judged, digest, accept_unjudged=accept_unjudged)
    names = model.names(judged)
    model.require_weights(names)
    model.bring(names, incoming, disk=folder, what=uri, say=say)
    try:
        manifest = _verified(model, judged, names, incoming) if judged else _written(incoming, uri, digest, now)
    except Refused:
        # So that another fetch takes what stands there then.
        shutil.rmtree(folder / INCOMING)
        raise
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


def _require_empty(folder: Path) -> None:
    """What lies beside INCOMING is of a fetch that was killed while it finished, and nobody else's."""
    if not folder.exists() or (folder / INCOMING).exists():
        return
    if (other := next(folder.iterdir(), None)) is not None:
        raise Refused(f"{folder}: is not empty ({other.name}); name an empty folder")


def _cleared(folder: Path, state: str) -> Path:
    """Returns where files of this state are collected. All that is of another one, or nobody knows of what, goes."""
    incoming = folder / INCOMING / state
    stay = [folder / INCOMING, incoming]
    if incoming.exists():
        # What the hub's library keeps there is of this state too.
        stay.append(folder / INCOMING / _HUB)
    incoming.mkdir(parents=True, exist_ok=True)
    for entry in (*folder.iterdir(), *(folder / INCOMING).iterdir()):
        if entry not in stay:
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    return incoming


def _require_right_to_serve(uri: str, judged: Manifest | None, digest: str | None, *, accept_unjudged: bool) -> None:
    """Before anything large is fetched. Without a manifest the digest is known only then."""
    if judged is not None:
        _require_digest(uri, judged, digest)
    elif digest is None and not accept_unjudged:
        raise Refused(
            f"{uri}: has no {artifact.MANIFEST}, so nothing says that it passed a gate. Name its digest, or say that "
            "it may be served all the same (--accept-unjudged; model.acceptUnjudged of the endpoint)"
        )


def _require_digest(uri: str, manifest: Manifest, digest: str | None) -> None:
    if digest is not None and manifest.digest != digest:
        raise Refused(f"{uri}: has the digest {manifest.digest}, and {digest} was asked for")


def _verified(model: StoredModel, judged: Manifest, names: list[str], incoming: Path) -> Manifest:
    model.verify(judged, names, incoming, again="Upload the model again")
    return judged


def _written(incoming: Path, uri: str, digest: str | None, now: datetime) -> Manifest:
    """Returns the manifest that it has written for files that came without one."""
    made = artifact.build(incoming, run="", plan_digest=_NO_PLAN, created_at=now.isoformat(), lineage={"fetched": uri})
    _require_digest(uri, made, digest)
    (incoming / artifact.MANIFEST).write_text(artifact.dump(made), encoding="utf-8")
    return made


def _finish(incoming: Path, folder: Path) -> None:
    """Moves everything to its place. The marker goes last: whoever comes after a crash in between starts again."""
    shutil.rmtree(folder / INCOMING / _HUB, ignore_errors=True)
    for entry in sorted(incoming.iterdir()):
        entry.rename(folder / entry.name)
    incoming.rmdir()
    incoming.parent.rmdir()
