from dataclasses import dataclass

import numpy as np
import pytest

from slipway_trainer.batches import collate
from slipway_trainer.batches.packing import Bins

PAD = 0


@dataclass
class Documents:
    tokens: list[list[int]]
    learned: list[list[bool]]

    @property
    def lengths(self):
        return np.array([len(tokens) for tokens in self.tokens])

    chosen = None

    def texts(self, index: int) -> list[tuple[np.ndarray, np.ndarray]]:
        return [self.document(index)]

    def document(self, index):
        return np.array(self.tokens[index], np.uint16), np.array(self.learned[index])


FOUND = Documents(
    [[11, 12, 13], [21, 22], [31, 32, 33, 34]],
    [[True, True, True], [True, True], [False, False, True, True]],
)
BINS = Bins(np.array([0, 2, 3]), np.array([0, 1, 2]))


def learned(batch):
    """The tokens that are learned, each after the one that predicts it."""
    flat = batch.input_ids.flatten()
    return list(zip(flat[batch.predicting].tolist(), batch.targets.tolist(), strict=True))


def test_a_batch_is_what_the_model_is_given():
    batch = collate.batch(FOUND, BINS, [0, 1], max_length=32, pad_id=PAD)
    assert batch.input_ids.tolist() == [[11, 12, 13, 21, 22, PAD, PAD, PAD], [31, 32, 33, 34, PAD, PAD, PAD, PAD]]
    assert batch.position_ids.tolist() == [[0, 1, 2, 0, 1, 0, 1, 2], [0, 1, 2, 3, 0, 1, 2, 3]]
    assert batch.predicting.tolist() == [0, 1, 3, 9, 10]
    assert batch.targets.tolist() == [12, 13, 22, 33, 34]
    assert batch.lengths == (3, 2, 3, 4, 4)
    tensors = (batch.input_ids, batch.position_ids, batch.predicting, batch.targets)
    assert {str(tensor.dtype) for tensor in tensors} == {"torch.int64"}


def test_a_row_that_is_full_has_no_padding():
    batch = collate.batch(FOUND, BINS, [0], max_length=5, pad_id=PAD)
    assert batch.lengths == (3, 2)


def test_rows_may_have_one_width_whatever_is_in_them():
    for rows in ([0], [1], []):
        batch = collate.batch(FOUND, BINS, rows, max_length=32, pad_id=PAD, width=24)
        assert batch.input_ids.shape == batch.position_ids.shape == (1, 24)
        assert sum(batch.lengths) == 24


def test_a_batch_of_no_rows_teaches_nothing():
    batch = collate.batch(FOUND, BINS, [], max_length=32, pad_id=PAD)
    assert batch.input_ids.tolist() == [[PAD] * 8]
    assert (batch.lengths, len(batch.targets), len(batch.predicting)) == ((8,), 0, 0)


def test_rows_come_in_the_order_asked_for():
    batch = collate.batch(FOUND, BINS, [1, 0], max_length=32, pad_id=PAD)
    assert batch.input_ids[:, 0].tolist() == [31, 11]


@pytest.mark.parametrize(("max_length", "width"), [(32, 8), (8, 8), (6, 6), (5, 5)])
def test_the_width_is_the_longest_row_rounded_up_and_never_above_max_length(max_length, width):
    assert collate.batch(FOUND, BINS, [0], max_length=max_length, pad_id=PAD).input_ids.shape == (1, width)


def test_a_row_that_is_too_long_is_never_cut():
    with pytest.raises(ValueError, match="a row of 5 tokens does not fit into 4"):
        collate.batch(FOUND, BINS, [0], max_length=4, pad_id=PAD)


def test_padding_is_never_learned_even_where_it_is_the_end_token():
    found = Documents([[11, 2]], [[True, True]])
    batch = collate.batch(found, Bins(np.array([0, 1]), np.array([0])), [0], max_length=8, pad_id=2)
    assert learned(batch) == [(11, 2)]
