"""From a dataset of the hub to files on this machine, or to such as are brought when they are read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from glob import has_magic
from pathlib import Path

from slipway_core.resources import uris
from slipway_core.resources.source import Source
from slipway_fetching.hub_dataset import HubDataset
from slipway_fetching.object_store import matches
from slipway_trainer.data import hub_splits
from slipway_trainer.data.data_files import refuse_mixture
from slipway_trainer.data.reading import row_range
from slipway_trainer.data.reading.block import Reading
from slipway_trainer.data.reading.blocks import READ, SUFFIXES, blocks
from slipway_trainer.data.source_file import SourceFile, Streamed
from slipway_trainer.step.errors import BadConfig, BadData, first_line
from slipway_trainer.step.requester import requester

_Rows = tuple[int, int] | None
_TRAIN = "train"
_FEW = 3


def hub_files(
    source: Source,
    field: str,
    reading: Reading,
    cache: Path,
    commits: Path,
    say: Callable[[str], None] = lambda _: None,
) -> list[SourceFile]:
    """Returns the files of a dataset of the hub that a source names, in the order of its rows.

    Args:
        field: of the plan that holds the URI, for errors.
        reading: how its rows are read, by which those of a slice are counted.
        cache: for what is fetched, where a later attempt finds it.
        commits: folder in which the commit of every dataset stays, so that all attempts take the same.
        say: told what is taken, and what of the dataset is not read.

    Raises BadConfig or BadData where the source asks for what is not there, and a FetchError.
    """
    who = replace(
        requester(field),
        more_room="Free space there, take a larger disk, or set streaming: true beside the uri: one file at a time is "
        "kept then",
    )
    dataset = HubDataset(uris.parse(source.uri), who, cache, commits, revision=source.revision)
    found = _Finder(source, f"{field}: {source.uri}", dataset, reading, say)
    files = found.of_uri() if dataset.uri.inside else found.of_splits()
    if dataset.offline:
        say(f"no hub answers: {source.uri} is as it was when it was fetched last, at {dataset.commit}")
    return files


class _Finder:
    def __init__(
        self, source: Source, named: str, dataset: HubDataset, reading: Reading, say: Callable[[str], None]
    ) -> None:
        self._source, self._named, self._dataset, self._reading, self._say = source, named, dataset, reading, say

    def of_uri(self) -> list[SourceFile]:
        """Returns the files that the URI names: one, those of a folder, or those that a glob matches."""
        inside = self._dataset.uri.inside.rstrip("/")
        names = sorted(self._dataset.files)
        if inside in self._dataset.files:
            found = [inside]
        elif has_magic(inside):
            found = [name for name in names if matches(name, inside) and name.endswith(SUFFIXES)]
        else:
            found = [name for name in names if name.startswith(f"{inside}/") and name.endswith(SUFFIXES)]
            found = [name for name in found if not any(part.startswith(".") for part in name.split("/"))]
            refuse_mixture(found, self._source.uri, self._named.partition(": ")[0])
        if not found:
            raise BadData(f"{self._named}: there is no data file of that name, and none below it or that it matches")
        if not found[0].endswith(SUFFIXES):
            raise BadData(f"{self._named}: not a data file; these are read: {READ}")
        return self._files([(name, None) for name in found], {})

    def of_splits(self) -> list[SourceFile]:
        """Returns the files of the splits that the source names; without any, of the one for training."""
        splits = self._splits()
        spec = self._source.split or _TRAIN
        wanted = [one.strip().partition("[")[0] for one in spec.split("+")]
        if missing := [name for name in wanted if name not in splits.files]:
            asked = (
                f"has no split {missing[0]!r}"
                if self._source.split
                else "has no split called train. Say which by `split`"
            )
            raise BadConfig(f"{self._named}: config {splits.config} {asked}; it has {', '.join(splits.files)}")
        hub_splits.refuse_unreadable([file for name in wanted for file in splits.files[name]], self._named)
        if "[" in spec:
            found = self._sliced(spec, {name: splits.files[name] for name in wanted})
        else:
            found = [(file, None) for name in wanted for file in splits.files[name]]
        if not found:
            raise BadData(f"{self._named}: split {spec} holds no row")
        self._say(f"{self._source.uri}: split {spec} of config {splits.config}, {len(found)} file(s)")
        stands_under = {"license": splits.license} if splits.license else {}
        return self._files(found, {"config": splits.config, "split": spec, **stands_under})

    def _splits(self) -> hub_splits.Splits:
        names = sorted(self._dataset.files)
        cards = [name for name in hub_splits.CARDS if name in self._dataset.files]
        folder = self._dataset.bring(cards)
        held = {name: (folder / name).read_bytes() for name in cards}
        splits = hub_splits.find(self._dataset.uri.repository, names, held, self._source.config, self._named)
        if unread := splits.unread:
            shown = ", ".join(unread[:_FEW]) + (", …" if len(unread) > _FEW else "")
            self._say(f"{self._source.uri}: {len(unread)} data file(s) are of no split and are not read: {shown}")
        return splits

    def _sliced(self, spec: str, splits: Mapping[str, Sequence[str]]) -> list[tuple[str, _Rows]]:
        """Returns files with what of their rows is wanted, rounded and counted as the library datasets does."""
        import datasets

        folder = self._dataset.bring([file for files in splits.values() for file in files], self._say)
        counts = {name: [self._count(folder, file) for file in files] for name, files in splits.items()}
        try:
            parts = datasets.ReadInstruction.from_spec(spec).to_absolute({n: sum(own) for n, own in counts.items()})
        except (ValueError, AssertionError) as error:
            raise BadConfig(f"{self._named}: split {spec}: {first_line(error)}") from None
        return [
            one
            for part in parts
            for one in _ranges(splits[part.splitname], counts[part.splitname], part.from_, part.to)
        ]

    def _count(self, folder: Path, file: str) -> int:
        if file.endswith(".parquet"):
            return row_range.count_of_parquet(folder / file, self._name(file))
        return sum(map(row_range.count_of, blocks(folder / file, self._name(file), self._reading)))

    def _files(self, wanted: Sequence[tuple[str, _Rows]], origin: Mapping[str, str]) -> list[SourceFile]:
        if self._source.streaming:
            place = Path(f"{self._dataset.uri.repository}@{self._dataset.commit}")
        else:
            place = self._dataset.bring(dict.fromkeys(file for file, _ in wanted), self._say)
        told = tuple({"revision": self._dataset.commit, **origin}.items())
        return [SourceFile(place / file, self._name(file), rows, told, self._streamed(file)) for file, rows in wanted]

    def _streamed(self, file: str) -> Streamed | None:
        if not self._source.streaming:
            return None
        size, digest = self._dataset.files[file].size, self._dataset.sha256(file)
        return Streamed(size, digest, partial(self._dataset.streamed, file))

    def _name(self, file: str) -> str:
        return f"{replace(self._dataset.uri, inside='', revision=None)}/{file}"


def _ranges(files: Sequence[str], counts: Sequence[int], start: int, stop: int) -> Iterator[tuple[str, _Rows]]:
    """Yields the files that hold the rows from start to before stop of all of them, each with those of its own."""
    done = 0
    for file, count in zip(files, counts, strict=True):
        first, last = max(0, start - done), min(count, stop - done)
        if first < last:
            yield file, (None if (first, last) == (0, count) else (first, last))
        done += count
