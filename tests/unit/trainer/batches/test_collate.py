from dataclasses import dataclass

import numpy as np
import pytest

from slipway_trainer.batches import collate
from slipway_trainer.batches.packing import Bins

PAD, NOT = 0, collate.IGNORED


@dataclass
class Documents:
    tokens: list[list[int]]
    learned: list[list[bool]]

    @property
    def lengths(self):
        return np.array([len(tokens) for tokens in self.tokens])

    def document(self, index):
        return np.array(self.tokens[index], np.uint16), np.array(self.learned[index])


FOUND = Documents(
    [[11, 12, 13], [21, 22], [31, 32, 33, 34]],
    [[True, True, True], [True, True], [False, False, True, True]],
)
BINS = Bins(np.array([0, 2, 3]), np.array([0, 1, 2]))


def test_a_batch_is_what_the_model_is_given():
    batch = collate.batch(FOUND, BINS, [0, 1], max_length=32, pad_id=PAD)
    assert batch["input_ids"].tolist() == [[11, 12, 13, 21, 22, PAD, PAD, PAD], [31, 32, 33, 34, PAD, PAD, PAD, PAD]]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 0, 1, 0, 1, 2], [0, 1, 2, 3, 0, 1, 2, 3]]
    assert batch["labels"].tolist() == [[NOT, 12, 13, NOT, 22, NOT, NOT, NOT], [NOT, NOT, 33, 34, NOT, NOT, NOT, NOT]]
    assert set(batch) == {"input_ids", "position_ids", "labels"}
    assert {str(tensor.dtype) for tensor in batch.values()} == {"torch.int64"}


def test_rows_come_in_the_order_asked_for():
    batch = collate.batch(FOUND, BINS, [1, 0], max_length=32, pad_id=PAD)
    assert batch["input_ids"][:, 0].tolist() == [31, 11]


@pytest.mark.parametrize(("max_length", "width"), [(32, 8), (8, 8), (6, 6), (5, 5)])
def test_the_width_is_the_longest_row_rounded_up_and_never_above_max_length(max_length, width):
    assert collate.batch(FOUND, BINS, [0], max_length=max_length, pad_id=PAD)["labels"].shape == (1, width)


def test_a_row_that_is_too_long_is_never_cut():
    with pytest.raises(ValueError, match="a row of 5 tokens does not fit into 4"):
        collate.batch(FOUND, BINS, [0], max_length=4, pad_id=PAD)


def test_padding_is_never_learned_even_where_it_is_the_end_token():
    found = Documents([[11, 2]], [[True, True]])
    batch = collate.batch(found, Bins(np.array([0, 1]), np.array([0])), [0], max_length=8, pad_id=2)
    assert batch["labels"].tolist() == [[NOT, 2, *[NOT] * 6]]
