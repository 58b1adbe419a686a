"""What the process of the harness is told of a task, and what it tells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Wanted:
    """A task as the plan asks for it."""

    name: str
    definition: str | None = None
    """Text of its .yaml file, where the harness does not ship it."""
    fewshot: int | None = None
    """Examples before each document; as many as the task says when None."""
    own_data: bool = False
    """Whether its rows are given as files."""


@dataclass(frozen=True)
class Metric:
    share: bool
    """Whether it is the mean of what the documents score."""
    higher: bool
    """Whether more of it is better."""


@dataclass(frozen=True)
class Rows:
    """Rows of the hub."""

    dataset: str
    """`org/name`."""
    config: str | None = None
    revision: str | None = None
    files: Mapping[str, Sequence[str]] | None = None
    """Names and globs of the files of each split; None where the hub says which they are."""
    reading: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """How its files are read: the names of columns, the separator, ..."""


@dataclass(frozen=True)
class Described:
    """What is known of a task without its rows."""

    name: str
    judged: str
    """The split that is judged."""
    shots: str | None
    """The split that examples are drawn from; None where there are none, or the task has them itself."""
    fewshot: int
    metrics: Mapping[str, Metric]
    """By the name that a gate has for them."""
    rows: Rows | None
    """None where its rows are given."""
    writes: int | None
    """Tokens of the longest answer; None where no answer is written."""
    version: str
    """Of lm-evaluation-harness."""
    revision: str
    """Of the task, as it says itself."""

    @property
    def splits(self) -> list[str]:
        """The splits whose rows it needs."""
        return list(dict.fromkeys(name for name in (self.judged, self.shots) if name is not None))

    def to_document(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of_document(cls, told: Mapping[str, Any]) -> Described:
        return cls(
            **{
                **told,
                "metrics": {name: Metric(**one) for name, one in told["metrics"].items()},
                "rows": None if told["rows"] is None else Rows(**told["rows"]),
            }
        )


@dataclass(frozen=True)
class Copied:
    """A task whose rows were copied."""

    files: Mapping[str, str]
    """By split, the name of the file in the folder that they were copied to."""
    texts: Sequence[str]
    """Of each document that is judged, what it asks and the right answer."""


@dataclass(frozen=True)
class Sample:
    """One document."""

    number: int
    asked: str
    """What was written before the answer, of the first request."""
    answers: Sequence[Any]
    """What the model did, after the first filter: the answer, or a log-likelihood of each choice."""
    target: str


@dataclass(frozen=True)
class Scored:
    """What a model did in a task."""

    metrics: Mapping[str, float]
    """Each metric as the harness makes it of all documents, by the name that a gate has for it."""
    scores: Mapping[str, Sequence[float]]
    """Of those that are means, what each document scored, in their order."""
    documents: int
    samples: Sequence[Sample] = ()
    """The first of them."""
