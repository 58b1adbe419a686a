"""From a URI of the plan to data files on this machine."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path

from slipway_core.resources import uris
from slipway_fetching import object_store, stored_object
from slipway_trainer.data.reading.blocks import READ, SUFFIXES, kind_of
from slipway_trainer.data.source_file import SourceFile
from slipway_trainer.step.errors import BadConfig, BadData
from slipway_trainer.step.local_path import in_image, local_path
from slipway_trainer.step.requester import requester

SAMPLES = "samples"
_DATA_ALONE = frozenset((".jsonl", ".parquet", ".arrow"))
"""Kinds of files that hold nothing but rows."""


def data_files(uri: str, field: str, cache: Path, say: Callable[[str], None] = lambda _: None) -> list[SourceFile]:
    """Returns the data files that a URI names, sorted by name: one file, or those of a folder or glob.

    Args:
        uri: of the plan, of another scheme than `hf` (see `hub_files`); `file` URIs are absolute.
        field: of the plan, for errors.
        cache: where files of an object store are put, and found again by a later attempt.
        say: told what is fetched.

    Raises BadData when there is none, BadConfig when the scheme cannot be used here, and a FetchError when what lies
    elsewhere cannot be fetched.
    """
    parsed = uris.parse(uri)
    if parsed.scheme in object_store.SCHEMES:
        return _fetched(parsed, field, cache, say)
    if parsed.scheme == "package":
        return _sample(parsed.authority, uri, field)
    if parsed.scheme == "run":
        raise BadConfig(f"{field}: {uri} is a model, not data")
    try:
        return _local(local_path(parsed, field), uri, field, in_image(parsed))
    except OSError as error:
        raise BadData(f"{field}: {uri}: cannot be read: {error.strerror}") from None


def _local(path: Path, uri: str, field: str, hint: str) -> list[SourceFile]:
    if path.is_dir():
        return _in_folder(path, uri, field, f"{path}/")
    if path.exists():
        return [SourceFile(path, _name(path))]
    if glob.has_magic(str(path)):
        found = sorted(Path(name) for name in glob.glob(str(path), recursive=True))
        files = [SourceFile(file, _name(file)) for file in found if file.is_file() and file.name.endswith(SUFFIXES)]
        if not files:
            raise BadData(f"{field}: {uri}: matches no data file; these are read: {READ}{hint}")
        return files
    nearest = next((parent for parent in path.parents if parent.exists()), Path("/"))
    where = (
        "" if nearest == path.parent else f" ({nearest} exists, {path.relative_to(nearest).parts[0]} in it does not)"
    )
    raise BadData(f"{field}: {uri}: there is no such file{where}{hint}")


def _in_folder(folder: Path, uri: str, field: str, prefix: str) -> list[SourceFile]:
    found = sorted(
        path
        for path in folder.rglob("*")
        if path.name.endswith(SUFFIXES)
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )
    if not found:
        raise BadData(f"{field}: {uri}: the folder holds no data file; these are read: {READ}")
    refuse_mixture([path.name for path in found], uri, field)
    return [SourceFile(path, prefix + _name(path.relative_to(folder))) for path in found]


def refuse_mixture(names: Sequence[str], uri: str, field: str) -> None:
    """Raises BadData for a folder in which something that may be no data lies beside data: a README.txt, settings."""
    kinds = sorted({str(kind_of(name)) for name in names})
    if len(kinds) > 1 and not set(kinds) <= _DATA_ALONE:
        raise BadData(
            f"{field}: {uri}: the folder holds {' and '.join(kinds)} files. Say which are the data, with a glob such "
            f"as {uri.rstrip('/')}/**/*{kinds[0]}"
        )


def _name(path: Path) -> str:
    """A file's name is bytes; those that are no UTF-8 are shown as such, since a report is text."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _sample(name: str, uri: str, field: str) -> list[SourceFile]:
    root = Path(str(resources.files("slipway_trainer"))) / SAMPLES
    for candidate in (root / name, *(root / f"{name}{suffix}" for suffix in SUFFIXES)):
        if candidate.is_file():
            return [SourceFile(candidate, f"package://{candidate.name}")]
        if candidate.is_dir():
            return _in_folder(candidate, uri, field, f"{uri}/")
    known = sorted({path.name.split(".")[0] for path in root.glob("*") if not path.name.startswith(("_", "."))})
    raise BadData(f"{field}: {uri}: there is no such sample data; there is {', '.join(known) or 'none'}")


def _fetched(uri: uris.Uri, field: str, cache: Path, say: Callable[[str], None]) -> list[SourceFile]:
    who = requester(field)
    store = object_store.ObjectStore(uri, who)
    found = store.find()
    if not found:
        raise BadData(f"{field}: {uri}: there is no such object, and none below it or that it matches")
    if found[0].key != uri.path:
        found = [one for one in found if one.key.endswith(SUFFIXES)]
        if not glob.has_magic(uri.path):
            refuse_mixture([one.key for one in found], str(uri), field)
    wrong = next((one for one in found if not one.key.endswith(SUFFIXES)), None)
    if wrong is not None or not found:
        name = f"{store.address(wrong)}: not a data file" if wrong else f"{uri}: holds no data file"
        raise BadData(f"{field}: {name}; these are read: {READ}")
    # By its version, so that another one is never taken for it.
    wanted = {f"{one.fingerprint}/{uri.authority}{_suffix(one.key)}": one for one in found}
    what = f"the data of {field}"
    stored_object.fetch(store, wanted, cache, disk=cache, what=what, uri=str(uri), requester=who, say=say)
    return [SourceFile(cache / name, store.address(one)) for name, one in wanted.items()]


def _suffix(key: str) -> str:
    return next(suffix for suffix in SUFFIXES if key.endswith(suffix))
