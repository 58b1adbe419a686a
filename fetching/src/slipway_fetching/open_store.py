"""The store that a URI points to."""

from __future__ import annotations

from pathlib import Path

from slipway_core.resources import uris
from slipway_fetching.errors import Misconfigured
from slipway_fetching.hub import HubRepository
from slipway_fetching.object_store import ObjectStore
from slipway_fetching.requester import Requester
from slipway_fetching.stored_object import Store


def open_store(text: str, requester: Requester, cache: Path | None = None) -> Store:
    """Returns the store of a model's URI, without asking it anything.

    Args:
        cache: of the hub; None for the one of this machine, which others use as well.

    Raises Misconfigured.
    """
    try:
        uri = uris.parse(text)
    except uris.UriError as error:
        raise Misconfigured(str(error)) from None
    if not uri.remote:
        raise Misconfigured(
            f"{requester.named(text)}: a model is fetched from s3://, gs:// or hf://; "
            f"{uri.scheme}:// is read where it is"
        )
    if uri.dataset:
        raise Misconfigured(f"{requester.named(text)}: is a dataset of the hub; a model is hf://org/name")
    return HubRepository(uri, requester, cache) if uri.scheme == "hf" else ObjectStore(uri, requester)
