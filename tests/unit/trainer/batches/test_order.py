from dataclasses import dataclass

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from slipway_trainer.batches import order


@dataclass
class Documents:
    lengths: np.ndarray
    weights: np.ndarray


def documents(lengths, weight=1.0) -> Documents:
    return Documents(np.array(lengths, np.int32), np.full(len(lengths), weight, np.float32))


def rows(bins) -> list[list[int]]:
    return [bins.row(row).tolist() for row in range(len(bins))]


some = st.lists(st.integers(1, 32), min_size=1, max_size=100).map(documents)
seeds, epochs = st.integers(0, (1 << 31) - 1), st.integers(0, 1000)


@given(some, seeds, epochs)
def test_an_epoch_is_a_pure_function_of_its_arguments(found, seed, epoch):
    first = order.epoch(found, seed=seed, epoch=epoch, max_length=32)
    assert rows(first) == rows(order.epoch(found, seed=seed, epoch=epoch, max_length=32))


@given(some, seeds, epochs)
def test_an_epoch_sees_every_document_exactly_once(found, seed, epoch):
    bins = order.epoch(found, seed=seed, epoch=epoch, max_length=32)
    assert sorted(bins.documents.tolist()) == list(range(len(found.lengths)))
    assert all(found.lengths[bins.row(row)].sum() <= 32 for row in range(len(bins)))


@given(some, seeds)
def test_every_epoch_has_as_many_rows(found, seed):
    assert len({len(order.epoch(found, seed=seed, epoch=epoch, max_length=32)) for epoch in range(4)}) == 1


def test_epochs_and_seeds_have_orders_and_neighbours_of_their_own():
    found = documents([8] * 400)
    orders = [rows(order.epoch(found, seed=s, epoch=e, max_length=32)) for s, e in ((0, 0), (0, 1), (1, 0), (1, 1))]
    neighbours = [{frozenset(row) for row in own} for own in orders]
    for first in range(4):
        for second in range(first):
            assert orders[first] != orders[second]
            assert len(neighbours[first] & neighbours[second]) < 5


def test_rows_are_not_sorted_by_length():
    found = documents(list(range(1, 257)))
    first = [int(found.lengths[row].max()) for row in rows(order.epoch(found, seed=0, epoch=0, max_length=256))]
    assert abs(np.corrcoef(first, np.arange(len(first)))[0, 1]) < 0.3


@given(st.integers(1, 60), st.sampled_from([0.1, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0]), seeds)
def test_a_weight_is_how_often_an_epoch_sees_each_document(count, weight, seed):
    found = documents([4] * count, weight)
    seen = np.zeros(count, int)
    for epoch in range(8):
        own = np.bincount(order.epoch(found, seed=seed, epoch=epoch, max_length=32).documents, minlength=count)
        assert abs(own.sum() - weight * count) <= 1
        assert set(own.tolist()) <= {int(np.floor(weight)), int(np.ceil(weight))}
        seen += own
        assert np.all(np.abs(seen - weight * (epoch + 1)) <= 1)


def test_sources_of_other_weights_do_not_change_which_documents_a_source_gives():
    alone = documents([4] * 50, 0.5)
    mixed = Documents(np.full(80, 4, np.int32), np.array([0.5] * 50 + [2.0] * 30, np.float32))
    own = order.epoch(mixed, seed=3, epoch=0, max_length=32).documents
    assert sorted(n for n in own if n < 50) == sorted(order.epoch(alone, seed=3, epoch=0, max_length=32).documents)
    assert np.bincount(own)[50:].tolist() == [2] * 30


def test_the_order_is_the_same_in_every_version_of_the_libraries():
    # A resumed stage computes its order again: this one must never change.
    bins = order.epoch(documents([5, 3, 8, 1, 7, 2, 6, 4]), seed=7, epoch=2, max_length=9)
    assert rows(bins) == [[4, 5], [2, 3], [6, 1], [0, 7]]
