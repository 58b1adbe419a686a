"""A small text file that a plan names by a URI, such as the definition of a task."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from slipway_core.resources import uris
from slipway_fetching import object_store, stored_object
from slipway_fetching.hub_dataset import HubDataset
from slipway_trainer.step.errors import BadConfig, BadData
from slipway_trainer.step.local_path import in_image, local_path
from slipway_trainer.step.requester import requester


def read(
    uri: str, field: str, cache: Path, commits: Path, *, most: int, say: Callable[[str], None] = lambda _: None
) -> str:
    """Returns the text of a file, after fetching one of an object store or of a dataset of the hub.

    Args:
        field: of the plan that holds the URI, for errors.
        cache: for what is fetched.
        commits: folder in which the commit of every dataset stays.
        most: bytes that it may have.

    Raises BadData where it is not there, is too large or is no UTF-8, BadConfig for a scheme that has no such files,
    and a FetchError.
    """
    parsed = uris.parse(uri)
    if parsed.scheme in object_store.SCHEMES:
        path = _of_store(parsed, field, cache, most, say)
    elif parsed.scheme == "hf" and parsed.inside:
        path = _of_hub(parsed, field, cache, commits, most, say)
    elif parsed.scheme in ("file", "pvc"):
        path = local_path(parsed, field)
    else:
        raise BadConfig(f"{field}: {uri}: a file is named by file://, pvc://, s3://, gs:// or hf://datasets/org/name/")
    try:
        with path.open("rb") as file:
            data = file.read(most + 1)
        _refuse_large(len(data), most, field, uri)
        return data.decode("utf-8-sig")
    except OSError as error:
        hint = in_image(parsed) if isinstance(error, FileNotFoundError) else ""
        raise BadData(f"{field}: {uri}: cannot be read: {error.strerror}{hint}") from None
    except UnicodeDecodeError:
        raise BadData(f"{field}: {uri}: is not UTF-8; save it as UTF-8") from None


def _of_store(uri: uris.Uri, field: str, cache: Path, most: int, say: Callable[[str], None]) -> Path:
    who = requester(field)
    store = object_store.ObjectStore(uri, who)
    found = [one for one in store.find() if one.key == uri.path]
    if not found:
        raise BadData(f"{field}: {uri}: there is no such object")
    _refuse_large(found[0].size, most, field, str(uri))
    wanted = {f"{found[0].fingerprint}/{Path(uri.path).name}": found[0]}
    stored_object.fetch(store, wanted, cache, disk=cache, what=f"{field}", uri=str(uri), requester=who, say=say)
    return cache / next(iter(wanted))


def _of_hub(uri: uris.Uri, field: str, cache: Path, commits: Path, most: int, say: Callable[[str], None]) -> Path:
    dataset = HubDataset(uri, requester(field), cache, commits)
    if uri.inside not in dataset.files:
        raise BadData(f"{field}: {uri}: there is no such file")
    _refuse_large(dataset.files[uri.inside].size, most, field, str(uri))
    return dataset.bring([uri.inside], say) / uri.inside


def _refuse_large(size: int, most: int, field: str, uri: str) -> None:
    if size > most:
        raise BadData(f"{field}: {uri}: has more than {most:,} bytes, which no such file needs")
