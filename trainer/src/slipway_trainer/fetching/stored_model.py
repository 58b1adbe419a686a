"""A model of an object store or of the hub, fetched into the run's folder: whole and checked, or not at all."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path

from slipway_core.protocol import artifact, variables
from slipway_core.protocol.artifact import ArtifactError, Manifest
from slipway_core.resources import uris
from slipway_trainer.fetching import stored_object
from slipway_trainer.fetching.hub import HubModel
from slipway_trainer.fetching.object_store import ObjectStore
from slipway_trainer.fetching.stored_object import PART, Store, StoredObject
from slipway_trainer.step.errors import BadModel
from slipway_trainer.step.files import sync_folder, write_atomically


def place(uri: str, models: Path) -> Path:
    """Returns where the model of a URI lies once it is here: whole and checked, or not at all."""
    return models / hashlib.sha256(uri.rstrip("/").encode()).hexdigest()[:16]


def commit(uri: str, models: Path) -> str | None:
    """Returns the commit that the model of a repository of the hub was fetched at."""
    try:
        return _commit_file(place(uri, models)).read_text()
    except FileNotFoundError:
        return None


def fetch(
    uri: str,
    field: str,
    models: Path,
    *,
    weights: bool = True,
    say: Callable[[str], None] = lambda _: None,
    check: Callable[[], None] = lambda: None,
) -> Path:
    """Returns the folder of the model after fetching what is not there yet; killed in between, it goes on.

    Of a folder with a manifest the files that it names are taken and every byte is verified by it; of any other one
    those of its top folder that a model is loaded from. Formats that can run code are not fetched.

    Args:
        weights: False leaves them out, where the tokenizer alone is wanted.
        check: called before the model appears, with the fence's right to stop it.

    Raises BadModel, BadConfig, NoSpace, or FetchFailed, which may be otherwise at another time.
    """
    target = place(uri, models)
    if target.is_dir():
        return target
    parsed = uris.parse(uri)
    # A pod's own cache goes with it: there the files come by one beside them.
    cache = models / "hub" if variables.CLAIMS_VARIABLE in os.environ else None
    store = HubModel(parsed, field, cache) if parsed.scheme == "hf" else ObjectStore(parsed, field)
    offered = store.folder()
    if not offered:
        raise BadModel(f"{field}: {uri}: there is nothing. Check the name, and what lies there")
    state = "".join(f"{one.fingerprint}\n" for one in offered.values())
    incoming = models / f"{target.name}.incoming-{hashlib.sha256(state.encode()).hexdigest()[:16]}"
    manifest = _manifest(store, offered, incoming, uri, field)
    names = [name for name in _wanted(manifest, offered, uri, field) if weights or not _is_weight(name)]
    _require(names, offered, uri, field, weights=weights)
    wanted = {name: offered[name] for name in names}
    stored_object.fetch(store, wanted, incoming, disk=models, what=f"the model of {field}", uri=uri, say=say)
    if manifest is not None:
        _verify(manifest, names, incoming, uri, field)
    for rest in incoming.rglob(f"*{PART}"):
        rest.unlink()
    check()
    if isinstance(store, HubModel):
        if store.offline:
            say(f"no hub answers: {uri} is as it was when it was fetched last, at {store.commit}")
        write_atomically(_commit_file(target), store.commit)
    incoming.rename(target)
    for other in models.iterdir():
        if other.is_dir() and other != target:
            shutil.rmtree(other, ignore_errors=True)
    sync_folder(models)
    return target


def _commit_file(target: Path) -> Path:
    return target.with_name(f"{target.name}.commit")


def _manifest(store: Store, offered: dict[str, StoredObject], incoming: Path, uri: str, field: str) -> Manifest | None:
    if artifact.MANIFEST not in offered:
        return None
    store.bring({artifact.MANIFEST: offered[artifact.MANIFEST]}, incoming)
    try:
        return artifact.read(incoming)
    except ArtifactError as error:
        raise BadModel(f"{field}: {uri}: {error}") from None


def _wanted(manifest: Manifest | None, offered: dict[str, StoredObject], uri: str, field: str) -> list[str]:
    if manifest is None:
        # Of the top folder alone: subfolders hold other formats and checkpoints of the same model.
        patterns = artifact.MODEL_FILES
        return sorted(n for n in offered if "/" not in n and any(fnmatch(n, pattern) for pattern in patterns))
    for name in manifest.files:
        try:
            artifact.check_name(name)
        except ArtifactError as error:
            raise BadModel(f"{field}: {uri}: {error}") from None
        if name not in offered:
            raise BadModel(f"{field}: {uri}: the manifest names {name} and it is missing. Export the model again")
    return sorted(manifest.files)


def _require(names: list[str], offered: dict[str, StoredObject], uri: str, field: str, *, weights: bool) -> None:
    if weights and "config.json" not in names:
        raise BadModel(f"{field}: {uri}: has no config.json, so it is no model of Hugging Face")
    if weights and not any(_is_weight(name) for name in names):
        other = sorted(name for name in offered if name.endswith(artifact.PICKLE_SUFFIXES))
        raise BadModel(
            f"{field}: {uri}: holds no *.safetensors{f' but {other[0]}' if other else ''}. Other formats can run code "
            "when they are loaded: convert it"
        )
    if not names:
        raise BadModel(f"{field}: {uri}: holds no file of a tokenizer")


def _verify(manifest: Manifest, names: list[str], incoming: Path, uri: str, field: str) -> None:
    """A file that is damaged is removed, so that another attempt fetches the one that stands there then."""
    for name in names:
        found = artifact.hash_file(incoming / name)
        if found != manifest.files[name]:
            shutil.rmtree(incoming)
            raise BadModel(
                f"{field}: {uri}: {name} is not what the manifest says: {found.size} bytes with sha256 "
                f"{found.sha256[:12]}…, not {manifest.files[name].size} with {manifest.files[name].sha256[:12]}…. "
                f"Upload the model again{', or remove it from the cache of the hub' if uri.startswith('hf:') else ''}"
            )
    if artifact.digest_of(manifest.files) != manifest.digest:
        raise BadModel(f"{field}: {uri}: the digest of its manifest is not that of its files. Export the model again")


def _is_weight(name: str) -> bool:
    return name.endswith(artifact.WEIGHT_SUFFIXES)
