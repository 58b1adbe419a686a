import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway_trainer.batches.packing import pack

CAPACITY = 64
lengths = st.lists(st.integers(1, CAPACITY), max_size=200).map(lambda found: np.array(found, np.int32))


def row_lengths(bins, lengths: np.ndarray) -> list[int]:
    return [int(lengths[bins.row(row)].sum()) for row in range(len(bins))]


def best_fit_decreasing_by_hand(lengths: np.ndarray, capacity: int) -> list[int]:
    rooms: list[int] = []
    for length in sorted(lengths.tolist(), reverse=True):
        fitting = [row for row, room in enumerate(rooms) if room >= length]
        if fitting:
            rooms[min(fitting, key=lambda row: rooms[row])] -= length
        else:
            rooms.append(capacity - length)
    return sorted(capacity - room for room in rooms)


@given(lengths)
def test_every_document_is_in_exactly_one_row(lengths):
    bins = pack(lengths, CAPACITY)
    assert sorted(bins.documents.tolist()) == list(range(len(lengths)))
    assert bins.offsets[0] == 0
    assert bins.offsets[-1] == len(lengths)


@given(lengths)
def test_no_row_is_empty_or_over_the_capacity(lengths):
    assert all(0 < length <= CAPACITY for length in row_lengths(pack(lengths, CAPACITY), lengths))


@given(lengths)
def test_rows_are_those_of_best_fit_decreasing(lengths):
    assert sorted(row_lengths(pack(lengths, CAPACITY), lengths)) == best_fit_decreasing_by_hand(lengths, CAPACITY)


@given(lengths, st.randoms(use_true_random=False))
def test_rows_depend_on_the_lengths_alone_not_on_their_order(lengths, random):
    shuffled = lengths.tolist()
    random.shuffle(shuffled)
    again = np.array(shuffled, np.int32)
    assert sorted(row_lengths(pack(lengths, CAPACITY), lengths)) == sorted(row_lengths(pack(again, CAPACITY), again))


@given(lengths.filter(len), st.data())
def test_take_gives_the_same_rows_in_another_order(lengths, data):
    bins = pack(lengths, CAPACITY)
    order = np.array(data.draw(st.permutations(range(len(bins)))))
    taken = bins.take(order)
    assert [taken.row(n).tolist() for n in range(len(taken))] == [bins.row(int(row)).tolist() for row in order]


@pytest.mark.parametrize("bad", [[0], [65], [3, -1]])
def test_a_length_that_fits_no_row_is_refused(bad):
    with pytest.raises(ValueError, match="do not fit into rows of 1 to 64"):
        pack(np.array(bad), CAPACITY)


def test_no_documents_make_no_rows():
    assert len(pack(np.zeros(0, np.int32), CAPACITY)) == 0


def test_a_million_documents_are_packed_in_seconds_and_nearly_without_padding():
    lengths = np.clip(np.random.default_rng(0).lognormal(4.5, 1.0, 1_000_000).astype(np.int64) + 1, 1, 512)
    started = time.process_time()
    bins = pack(lengths, 512)
    # Measured: 0.6 s. Ten times that would be another algorithm.
    assert time.process_time() - started < 6
    assert lengths.sum() / (len(bins) * 512) > 0.99
