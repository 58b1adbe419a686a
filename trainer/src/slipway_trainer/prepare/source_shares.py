"""How much of what a stage sees comes from each of its sources: what was asked for, and what it came to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from slipway_core.resources.stage import Stage
from slipway_trainer.batches import mixed_rows
from slipway_trainer.batches.mixed_rows import MixedRows
from slipway_trainer.batches.mixture import Mixture, SourceShare
from slipway_trainer.batches.order import DocumentList
from slipway_trainer.data.encoded import Counts
from slipway_trainer.data.inputs import Input
from slipway_trainer.step.errors import BadData


@dataclass
class SourceCounts:
    """What a source gives to the training data."""

    rows: int = 0
    documents: int = 0
    tokens: int = 0

    def add(self, counts: Counts) -> None:
        """Adds what became of some of its rows."""
        self.rows += counts.rows
        self.documents += counts.documents
        self.tokens += counts.tokens


@dataclass(frozen=True)
class Shares:
    mixture: Mixture | None
    """None where the sources have weights."""
    report: list[dict[str, Any]]
    """Of each source {uri, rows, documents, tokens, asked, share, seen}: its share of the stage's tokens as it was
    asked for (None by weight) and as it comes out, and how often its documents are seen, at least and at most: by
    weight in an epoch, else in all of the stage."""


def find(stage: Stage, sources: Sequence[Input], counts: Mapping[str, SourceCounts], lengths: np.ndarray) -> Shares:
    """Returns the shares of a stage.

    Args:
        stage: whose sources these are.
        sources: in their order.
        counts: by the field of each source.
        lengths: int64 [documents], of all sources.

    Raises BadData where a source that is to have a share has nothing to learn.
    """
    own = [counts[source.field] for source in sources]
    if not stage.data.mixed:
        seen = [source.weight * count.tokens for source, count in zip(sources, own, strict=True)]
        times = [[int(np.floor(source.weight)), int(np.ceil(source.weight))] for source in sources]
        return Shares(None, list(_report(sources, own, [None] * len(own), seen, times)))
    asked = _asked(stage, sources, own)
    mixture = Mixture(tuple(SourceShare(count.documents, share) for count, share in zip(own, asked, strict=True)))
    rows = mixed_rows.of_stage(stage, DocumentList(lengths, np.ones(len(lengths), np.float32)), mixture)
    assert isinstance(rows, MixedRows)
    windows, times_seen = [], np.zeros(len(lengths), np.int64)
    for bins in rows.windows():
        windows.append((len(bins), rows.tokens(bins)))
        np.add.at(times_seen, bins.documents, 1)
    parts = np.split(np.arange(len(lengths)), np.cumsum([count.documents for count in own])[:-1])
    seen = [int((times_seen[part] * lengths[part]).sum()) for part in parts]
    times = [[int(times_seen[part].min()), int(times_seen[part].max())] if len(part) else [0, 0] for part in parts]
    return Shares(Mixture(mixture.sources, tuple(windows)), list(_report(sources, own, asked, seen, times)))


def lines(stage: str, report: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yields a line for people of each source, where there are several."""
    for source in report if len(report) > 1 else ():
        least, most = source["seen"]
        asked = "" if source["asked"] is None else f", {source['asked']:.2%} asked for"
        times = f"{least} times" if least == most else f"{least} or {most} times"
        yield (
            f"{stage}: {source['uri']}: {source['rows']:,} rows, {source['tokens']:,} tokens, {source['share']:.2%} of "
            f"what is seen{asked}, each document {times}"
        )


def _asked(stage: Stage, sources: Sequence[Input], counts: Sequence[SourceCounts]) -> list[float]:
    """Returns the share of each source; they are 1 together."""
    temperature = stage.data.temperature
    if temperature is None:
        for source, count, share in zip(sources, counts, stage.data.proportions, strict=True):
            refuse_empty(source, count, share)
        parts = list(stage.data.proportions)
    else:
        parts = [count.tokens ** (1 / temperature) if count.tokens else 0.0 for count in counts]
    return [part / sum(parts) for part in parts]


def refuse_empty(source: Input, count: SourceCounts, share: float) -> None:
    """Raises BadData where a source that is to have a share has nothing to learn."""
    if not count.documents:
        raise BadData(
            f"{source.field}: {source.uri}: {_nothing_of(count)}, so it cannot be {share:.6g} of what the stage sees. "
            "Give it rows, or take it out"
        )


def _nothing_of(count: SourceCounts) -> str:
    """Returns why a source has nothing to learn. A file without a row is refused before."""
    if count.rows:
        return f"nothing of its {count.rows} rows is learned"
    return "all of its rows are left out by data.deduplicate or set aside by data.validation"


def _report(
    sources: Sequence[Input],
    counts: Sequence[SourceCounts],
    asked: Sequence[float | None],
    seen: Sequence[float],
    times: Sequence[list[int]],
) -> Iterator[dict[str, Any]]:
    for source, count, share, tokens, each in zip(sources, counts, asked, seen, times, strict=True):
        yield {
            "uri": source.uri,
            "rows": count.rows,
            "documents": count.documents,
            "tokens": count.tokens,
            "asked": share if share is None else round(share, 6),
            "share": round(tokens / sum(seen), 6),
            "seen": each,
        }
