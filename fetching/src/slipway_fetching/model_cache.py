"""Models that stay in a folder of a run, found again by their URI: whole and checked, or not at all."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from slipway_core.protocol import variables
from slipway_fetching.errors import Refused
from slipway_fetching.hub import HubRepository
from slipway_fetching.open_store import open_store
from slipway_fetching.requester import Requester
from slipway_fetching.stored_model import StoredModel, is_weight
from slipway_host.files import sync, write_atomically


def place(uri: str, models: Path) -> Path:
    """Returns where the model of a URI lies once it is here: whole and checked, or not at all."""
    return models / hashlib.sha256(uri.rstrip("/").encode()).hexdigest()[:16]


def commit(uri: str, models: Path) -> str | None:
    """Returns the commit that the model of a repository of the hub was fetched at."""
    try:
        return _commit_file(place(uri, models)).read_text(encoding="utf-8")
    except FileNotFoundError:
        return None


def fetch(
    uri: str,
    requester: Requester,
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

    Raises a FetchError; of these Unavailable may be otherwise at another time. Or OSError of the folder.
    """
    target = place(uri, models)
    if target.is_dir():
        return target
    # A pod's own cache goes with it: there the files come by one beside them.
    cache = models / "hub" if variables.CLAIMS_VARIABLE in os.environ else None
    model = StoredModel(open_store(uri, requester, cache), uri, requester)
    incoming = models / f"{target.name}.incoming-{model.state}"
    _bring(model, incoming, models, weights=weights, say=say)
    check()
    if isinstance(model.store, HubRepository):
        write_atomically(_commit_file(target), model.store.commit)
    incoming.rename(target)
    for other in models.iterdir():
        if other.is_dir() and other != target:
            shutil.rmtree(other, ignore_errors=True)
    sync(models)
    return target


def _commit_file(target: Path) -> Path:
    return target.with_name(f"{target.name}.commit")


def _bring(model: StoredModel, incoming: Path, models: Path, *, weights: bool, say: Callable[[str], None]) -> None:
    manifest = model.manifest(incoming)
    names = [name for name in model.names(manifest) if weights or not is_weight(name)]
    _require(model, names, weights=weights)
    model.bring(names, incoming, disk=models, what=f"the model of {model.requester.field}", say=say)
    if manifest is None:
        return
    hint = ", or remove it from the cache of the hub" if isinstance(model.store, HubRepository) else ""
    try:
        model.verify(manifest, names, incoming, again=f"Upload the model again{hint}")
    except Refused:
        # So that another attempt fetches what stands there then.
        shutil.rmtree(incoming)
        raise


def _require(model: StoredModel, names: list[str], *, weights: bool) -> None:
    named = model.requester.named(model.uri)
    if weights and "config.json" not in names:
        raise Refused(f"{named}: has no config.json, so it is no model of Hugging Face")
    if weights:
        model.require_weights(names)
    if not names:
        raise Refused(f"{named}: holds no file of a tokenizer")
