"""The data that a plan names, found on this machine and fixed by digest before it is read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from slipway_core.plan import Plan
from slipway_core.protocol import artifact
from slipway_core.resources import uris
from slipway_core.resources.data import DataSource, Deduplicate, TextForm
from slipway_core.resources.evaluation import HeldOutSource, PromptSource
from slipway_fetching.hub_dataset import clear_streamed
from slipway_trainer.data import normalization
from slipway_trainer.data.data_files import data_files
from slipway_trainer.data.hub_files import hub_files
from slipway_trainer.data.reading import blocks as reading_blocks
from slipway_trainer.data.reading.block import AS_IT_IS, Block, Reading
from slipway_trainer.data.scan import Objective
from slipway_trainer.data.source_file import SourceFile
from slipway_trainer.step.errors import BadData

FileKey = tuple[Path, Reading]

# What a compressed byte becomes: gzip and zstd make a third to a sixth of text, Parquet compresses its pages.
_UNPACKED = {".gz": 5, ".zst": 6, ".parquet": 5}


@dataclass(frozen=True)
class InputFile:
    source: SourceFile
    size: int
    sha256: str
    stamp: tuple[int, int] | None
    """None of one that is streamed: it is compared by its digest whenever it comes."""
    reading: Reading = AS_IT_IS

    @property
    def name(self) -> str:
        return self.source.name

    @property
    def key(self) -> FileKey:
        """Tells it from other files, and from itself read otherwise."""
        return self.source.path, self.reading

    @property
    def text_bytes(self) -> int:
        """About how many bytes of text it holds."""
        return self.size * _UNPACKED.get(self.source.path.suffix, 1)

    def blocks(self) -> Iterator[Block]:
        """Yields its rows. Raises BadData when it is unreadable, or no longer the file that was hashed; one that is
        streamed may also raise a FetchError."""
        with self.source.here() as path:
            yield from reading_blocks.blocks(path, self.name, self.reading)
        if self.stamp is None:
            return
        if not self.source.path.exists() or _stamp(self.source.path) != self.stamp:
            raise BadData(f"{self.name}: was changed while it was read. Start the run again once it is complete")

    def to_document(self, uri: str) -> dict[str, Any]:
        rows = {"rows": list(self.reading.rows)} if self.reading.rows is not None else {}
        found = {"uri": uri, "name": self.name, "bytes": self.size, "sha256": self.sha256}
        return found | dict(self.source.origin) | rows


@dataclass(frozen=True)
class Input:
    """One source of the plan."""

    field: str
    uri: str
    weight: float
    files: tuple[InputFile, ...]
    recall: bool = False
    name: str | None = None
    """Of a source of the evaluation, by which gates name it."""

    def to_documents(self, forms: Mapping[FileKey, str]) -> list[dict[str, Any]]:
        """Returns what the report says of each file; of one without a row no form is known."""
        return [file.to_document(self.uri) | {"form": forms.get(file.key)} for file in self.files]


@dataclass(frozen=True)
class StageInputs:
    train: tuple[Input, ...]
    validation: tuple[Input, ...]
    objective: Objective
    deduplicate: Deduplicate = "None"
    """Which rows of `train` are left out for what stands before them."""

    @property
    def train_places(self) -> list[tuple[Objective, FileKey]]:
        """Of all that it learns from, in the order in which it is read."""
        return [(self.objective, file.key) for source in self.train for file in source.files]

    @property
    def validation_places(self) -> list[tuple[Objective, FileKey]]:
        """Of the validation data of its own, in the order in which it is read."""
        return [(self.objective, file.key) for source in self.validation for file in source.files]

    @property
    def files(self) -> list[InputFile]:
        return [file for source in (*self.train, *self.validation) for file in source.files]


@dataclass(frozen=True)
class Inputs:
    stages: dict[str, StageInputs]
    evaluation: tuple[Input, ...]
    prompts: tuple[Input, ...]

    def training_files(self) -> list[tuple[Objective, InputFile]]:
        """Returns each file that a stage learns from or is validated on, once for each way in which it is read."""
        found: dict[tuple[Objective, FileKey], InputFile] = {}
        for stage in self.stages.values():
            for file in stage.files:
                found[stage.objective, file.key] = file
        return [(objective, file) for (objective, _), file in found.items()]

    def deduplicated(self) -> dict[tuple[Objective, FileKey], Deduplicate]:
        """Returns for each file of which a stage leaves rows out the most that one asks for."""
        found: dict[tuple[Objective, FileKey], Deduplicate] = {}
        for stage in self.stages.values():
            for place in stage.train_places if stage.deduplicate != "None" else ():
                found[place] = "Near" if "Near" in (found.get(place), stage.deduplicate) else "Exact"
        return found

    @property
    def text_bytes(self) -> int:
        return sum(file.text_bytes for stage in self.stages.values() for file in stage.files)


def collect(
    plan: Plan, cache: Path, say: Callable[[str], None] = lambda _: None, *, commits: Path | None = None
) -> Inputs:
    """Finds and hashes every file, after fetching those of an object store or the hub into the cache.

    Args:
        commits: folder that keeps the commits of datasets of the hub; in the cache when None.

    Raises BadData, BadConfig or a FetchError that names the field of the plan.
    """
    clear_streamed(cache)
    finder = _Finder(cache, commits or cache / "commits", say)
    stages = {}
    for index, stage in enumerate(plan.stages):
        validation = stage.data.validation
        field = f"stages[{index}].data"
        # What validates is measured as what is learned, whether it is set aside of that or given.
        forms = normalization.in_order(stage.data.normalization or ())
        stages[stage.name] = StageInputs(
            train=finder.inputs(stage.data.train, f"{field}.train", forms),
            validation=finder.inputs((validation and validation.data) or [], f"{field}.validation.data", forms),
            objective=stage.objective,
            deduplicate=stage.data.deduplicate,
        )
    return Inputs(
        stages=stages,
        evaluation=finder.inputs(plan.evaluation.data, "evaluation.data"),
        prompts=finder.inputs(plan.evaluation.prompts, "evaluation.prompts"),
    )


def blocks(found: Iterable[Input]) -> Iterator[tuple[Input, Block]]:
    """Yields every block of some sources, each with the source that it is of."""
    return ((source, block) for source in found for file in source.files for block in file.blocks())


class _Finder:
    def __init__(self, cache: Path, commits: Path, say: Callable[[str], None]) -> None:
        self._cache, self._commits, self._say = cache, commits, say
        self._known: dict[Path, InputFile] = {}

    def inputs(
        self, wanted: Iterable[DataSource | PromptSource], field: str, forms: tuple[TextForm, ...] = ()
    ) -> tuple[Input, ...]:
        return tuple(self._input(source, f"{field}[{index}].uri", forms) for index, source in enumerate(wanted))

    def _input(self, source: DataSource | PromptSource, field: str, forms: tuple[TextForm, ...]) -> Input:
        reading = _reading(source, forms)
        return Input(
            field=field,
            uri=source.uri,
            weight=source.weight if isinstance(source, DataSource) else 1.0,
            files=tuple(
                replace(self._file(file, field), source=file, reading=replace(reading, rows=file.rows))
                for file in self._source_files(source, field, reading)
            ),
            recall=isinstance(source, PromptSource) and source.recall,
            name=source.name if isinstance(source, PromptSource | HeldOutSource) else None,
        )

    def _source_files(self, source: DataSource | PromptSource, field: str, reading: Reading) -> list[SourceFile]:
        if uris.parse(source.uri).scheme == "hf":
            return hub_files(source, field, reading, self._cache, self._commits, self._say)
        return data_files(source.uri, field, self._cache, self._say)

    def _file(self, source: SourceFile, field: str) -> InputFile:
        if source.streamed is not None:
            return InputFile(source, source.streamed.size, source.streamed.sha256, None)
        if source.path not in self._known:
            try:
                stamp = _stamp(source.path)
                entry = artifact.hash_file(source.path)
            except OSError as error:
                hint = "; give this user the right to (chmod +r)" if isinstance(error, PermissionError) else ""
                raise BadData(f"{field}: {source.name}: cannot be read: {error.strerror}{hint}") from None
            self._known[source.path] = InputFile(source, entry.size, entry.sha256, stamp)
        return self._known[source.path]


def _reading(source: DataSource | PromptSource, forms: tuple[TextForm, ...]) -> Reading:
    columns = source.columns.named() if source.columns is not None else ()
    return Reading(
        format=None if source.format == "Auto" else source.format,
        documents=source.documents if isinstance(source, DataSource) else "File",
        columns=columns,
        normalization=forms,
    )


def _stamp(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns
