"""The stream of rows: every sample exactly as often as the plan says, however a stage is cut up."""

from collections import Counter
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway_core.resources.data import StageData
from slipway_core.resources.stage import Batch, Stage
from slipway_trainer.batches.row_stream import Extent, RowStream, extent, sequences_of
from slipway_trainer.step.errors import BadData


@dataclass
class Documents:
    lengths: np.ndarray
    weights: np.ndarray


def documents(*lengths: int, weights: list[float] | None = None) -> Documents:
    return Documents(np.array(lengths, np.int32), np.array(weights or [1.0] * len(lengths), np.float32))


def stage(**settings: object) -> Stage:
    data = StageData.model_validate({"train": [{"uri": "file:///x"}]}, by_alias=True, by_name=False)
    return Stage(name="s", data=data, max_length=16, **settings)  # type: ignore[arg-type]


def seen(stream: RowStream, found: Extent, start: int = 0) -> Counter[int]:
    counts: Counter[int] = Counter()
    for step in range(start, found.steps):
        rows = stream.rows(*found.window(step))
        counts.update(int(document) for document in rows.documents)
    return counts


@given(
    lengths=st.lists(st.integers(1, 16), min_size=1, max_size=40),
    sequences=st.integers(1, 7),
    epochs=st.integers(1, 4),
    seed=st.integers(0, 5),
)
def test_whole_epochs_see_every_document_once_each(lengths: list[int], sequences: int, epochs: int, seed: int) -> None:
    stream = RowStream(documents(*lengths), seed=seed, max_length=16)
    found = extent(stage(epochs=float(epochs), batch=Batch(sequences=sequences)), stream)
    assert seen(stream, found) == Counter(dict.fromkeys(range(len(lengths)), epochs))


@given(
    weights=st.lists(st.sampled_from([0.3, 0.5, 1.0, 2.0]), min_size=3, max_size=20),
    cut=st.integers(0, 10),
    sequences=st.integers(1, 4),
)
def test_a_resumed_stream_goes_on_where_it_was(weights: list[float], cut: int, sequences: int) -> None:
    docs = documents(*([5] * len(weights)), weights=weights)
    settings = stage(epochs=4.0, batch=Batch(sequences=sequences))
    whole = RowStream(docs, seed=1, max_length=16)
    found = extent(settings, whole)
    cut = min(cut, found.steps)
    first, second = RowStream(docs, seed=1, max_length=16), RowStream(docs, seed=1, max_length=16)
    head = seen(first, Extent(found.rows, cut, found.sequences))
    assert head + seen(second, found, start=cut) == seen(whole, found)


def test_a_step_goes_across_the_end_of_an_epoch() -> None:
    stream = RowStream(documents(16, 16, 16), seed=0, max_length=16)
    found = extent(stage(epochs=2.0, batch=Batch(sequences=4)), stream)
    assert (found.rows, found.steps) == (6, 2)
    assert len(stream.rows(*found.window(0))) == 4
    assert len(stream.rows(*found.window(1))) == 2
    assert stream.locate(3) == (1, 0)


def test_part_of_an_epoch() -> None:
    stream = RowStream(documents(*[16] * 10), seed=0, max_length=16)
    assert extent(stage(epochs=2.5, batch=Batch(sequences=1)), stream).rows == 25
    assert extent(stage(epochs=0.01, batch=Batch(sequences=1)), stream).rows == 1


def test_steps_and_tokens() -> None:
    stream = RowStream(documents(*[10] * 10), seed=0, max_length=16)
    assert extent(stage(steps=7, batch=Batch(sequences=3)), stream) == Extent(21, 7, 3)
    assert extent(stage(tokens=61, batch=Batch(sequences=3)), stream).steps == 3


@pytest.mark.parametrize(
    ("batch", "rows"), [(Batch(tokens=64), 4), (Batch(tokens=70), 4), (Batch(tokens=3), 1), (Batch(sequences=5), 5)]
)
def test_a_batch_is_a_number_of_rows(batch: Batch, rows: int) -> None:
    assert sequences_of(stage(batch=batch)) == rows


def test_no_document_is_bad_data() -> None:
    with pytest.raises(BadData, match="no document to learn from"):
        RowStream(documents(), seed=0, max_length=16)
