"""Which files of a dataset of the hub are which split, as the library `datasets` says.

The library is asked about a folder in which every file of the repository stands, empty, but for the cards that describe
it. So it decides as it does for everybody, and neither fetches nor converts anything: the files are read by our own
readers, as they are. A card is a stranger's: what it names outside the repository is refused before the library looks.
"""

from __future__ import annotations

import io
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path, PurePosixPath
from typing import Any, cast

from slipway_trainer.data import licence
from slipway_trainer.data.reading.blocks import READ, SUFFIXES
from slipway_trainer.step.errors import BadConfig, BadData, first_line

_README = "README.md"
CARDS = (_README, ".huggingface.yaml")
"""What may say which files are which split."""
_INFOS = "dataset_infos.json"
_OF_EVERY_CONFIG = ("name", "version", "data_dir", "data_files", "description", "features")
_OUTSIDE = ("://", "::", "~")


@dataclass(frozen=True)
class Splits:
    """The splits of one configuration."""

    config: str
    files: Mapping[str, tuple[str, ...]]
    """Those of each split, by their names in the repository, in the order of its rows."""
    unread: tuple[str, ...]
    """Data files that are of no split although no card says so: the library takes those of one kind."""
    license: str = ""
    """As its card says it; empty where that does not."""


def find(repository: str, names: Sequence[str], cards: Mapping[str, bytes], config: str | None, named: str) -> Splits:
    """Returns the splits of a configuration; None for the only one, or the default.

    Args:
        repository: `org/name`.
        names: all files of it.
        cards: what those of CARDS hold that there are.
        named: field and URI, as an error begins.

    Raises BadConfig where there is no such configuration, or none of several is the default, and BadData where a
    program makes the rows, where the library cannot tell, and where a card has files read in a way that is not ours.
    """
    _refuse_program(repository, names, named)
    said = {name: _metadata(name, card, f"{named}: its {name}") for name, card in cards.items()}
    for name, words in said.items():
        _refuse_outside(words, f"{named}: its {name}")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder, "files", repository.rpartition("/")[2])
        _write_skeleton(place, names, {name: card for name, card in cards.items() if said[name]})
        builder = _builder(place, config, named, Path(folder, "cache"))
        found = {
            str(split): tuple(_name_of(file, place, named) for file in files)
            for split, files in builder.config.data_files.items()
        }
    _refuse_options(builder.config, next(iter(found.values()), ()), named)
    taken = {file for files in found.values() for file in files}
    described = any(words.get("configs") for words in said.values())
    unread = [] if described else [name for name in names if name not in taken and _may_be_data(name)]
    stands_under = licence.named(licence.of_fields(said.get(_README)))
    return Splits(builder.config.name, found, tuple(unread), stands_under)


def _may_be_data(name: str) -> bool:
    from datasets.data_files import FILES_TO_IGNORE

    return name.endswith(SUFFIXES) and name.rpartition("/")[2] not in FILES_TO_IGNORE


def _builder(place: Path, config: str | None, named: str, cache: Path) -> Any:
    import datasets

    try:
        return datasets.load_dataset_builder(str(place), name=config, cache_dir=str(cache))
    except Exception as error:
        # Of a card that is not as the library takes it to be, it raises what it comes upon: TypeError, KeyError.
        configs = _names_of_configs(place)
        if config is not None and configs and config not in configs:
            raise BadConfig(f"{named}: has no config {config!r}; it has {', '.join(configs)}") from None
        if config is None and len(configs) > 1:
            raise BadConfig(
                f"{named}: has several configs. Say which by `config` beside the uri: {', '.join(configs)}"
            ) from None
        if isinstance(error, FileNotFoundError):
            raise BadData(f"{named}: holds no data that could be read; these are: {READ}") from None
        raise BadData(
            f"{named}: the library datasets cannot tell its splits: {first_line(error)}. Name its files instead, such "
            f"as {_a_glob(named)}"
        ) from None


def _names_of_configs(place: Path) -> list[str]:
    import datasets

    try:
        return list(map(str, datasets.get_dataset_config_names(str(place))))
    except Exception:
        return []


def _refuse_program(repository: str, names: Sequence[str], named: str) -> None:
    program = f"{repository.rpartition('/')[2]}.py"
    if program in names:
        raise BadData(
            f"{named}: its rows are made by a program, {program}, and programs of a repository are never run. Many of "
            "these datasets have a copy as Parquet files: revision: refs/convert/parquet"
        )


def _refuse_outside(card: Mapping[str, Any], named: str) -> None:
    """The library takes a pattern of a card for a path of this machine, or for an address, where it is written so."""
    for pattern in _patterns(card.get("configs")):
        if pattern.startswith("/") or ".." in PurePosixPath(pattern).parts or any(one in pattern for one in _OUTSIDE):
            raise BadData(f"{named} names files outside the repository: {pattern!r}. Name the files in the uri instead")


def _patterns(value: Any, key: str = "") -> Iterator[str]:
    """Yields every string that stands somewhere below `data_files` or `data_dir`."""
    if isinstance(value, dict):
        for name, inner in cast(dict[str, Any], value).items():
            yield from _patterns(inner, name if key not in ("data_files", "data_dir") else key)
    elif isinstance(value, list):
        for inner in cast(list[Any], value):
            yield from _patterns(inner, key)
    elif isinstance(value, str) and key in ("data_files", "data_dir"):
        yield value


def _metadata(name: str, card: bytes, named: str) -> dict[str, Any]:
    """Returns what a card says, by the parser that the library uses; nothing where that finds nothing to read."""
    import yaml
    from huggingface_hub import DatasetCard
    from huggingface_hub.repocard import REGEX_YAML_BLOCK

    try:
        text = card.decode("utf-8")
        if name != _README:
            found = yaml.safe_load(text)
        elif REGEX_YAML_BLOCK.search(text):
            found = DatasetCard(text).data.to_dict()
        else:
            found = {}
    except (yaml.YAMLError, ValueError) as error:
        raise BadData(f"{named} cannot be read: {first_line(error)}. Name the files in the uri instead") from None
    return cast(dict[str, Any], found) if isinstance(found, dict) else {}


def _write_skeleton(place: Path, names: Sequence[str], cards: Mapping[str, bytes]) -> None:
    empty = io.BytesIO()
    zipfile.ZipFile(empty, "w").close()
    for name in names:
        # The one says nothing of files, the others nothing at all.
        if name == _INFOS or (name in CARDS and name not in cards):
            continue
        path = place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        # The library looks into archives for what they hold.
        path.write_bytes(cards.get(name, empty.getvalue() if name.endswith(".zip") else b""))


def _name_of(file: str, place: Path, named: str) -> str:
    try:
        return Path(file).relative_to(place.resolve()).as_posix()
    except ValueError:
        raise BadData(f"{named}: names files outside the repository: {file!r}") from None


def refuse_unreadable(files: Sequence[str], named: str) -> None:
    """Raises BadData for a file that our readers do not read: pictures, archives."""
    wrong = next((name for name in files if not name.endswith(SUFFIXES)), None)
    if wrong is not None:
        raise BadData(f"{named}: {wrong} is no file of rows; these are read: {READ}")


def _refuse_options(config: Any, files: Sequence[str], named: str) -> None:
    """Raises BadData where a card has files read in another way than our readers do."""
    usual = type(config)()
    for field in fields(config):
        value = getattr(config, field.name)
        if field.name in _OF_EVERY_CONFIG or value == getattr(usual, field.name):
            continue
        if field.name == "sep" and value == "\t" and all(".tsv" in name for name in files):
            continue
        raise BadData(
            f"{named}: its card has the files of config {config.name} read with {field.name}: {value!r}, which is not "
            f"built yet. Name the files instead, such as {_a_glob(named)}, where they can be read without it"
        )


def _a_glob(named: str) -> str:
    return f"{named.rpartition(': ')[2].replace('hf://datasets/', 'hf://').replace('hf://', 'hf://datasets/')}/*.jsonl"
