"""How many validation documents are learned too: every one counts, however many there are."""

import numpy as np
import pytest

from slipway_trainer.data import learned_validation


@pytest.mark.parametrize(
    ("validation", "training", "learned"),
    [
        ([1, 2, 3], [3, 4, 1, 1], 2),
        ([5, 5, 5, 6], [5], 3),
        ([1], [2], 0),
        ([], [1], 0),
        ([1], [], 0),
    ],
)
def test_every_validation_document_that_stands_in_the_training_data_counts(validation, training, learned):
    keys = (np.array(validation, np.uint64), np.array(training, np.uint64))
    assert learned_validation.count(*keys) == learned


def test_much_training_data_is_looked_through_to_its_end(monkeypatch):
    monkeypatch.setattr(learned_validation, "_AT_A_TIME", 4)
    training = np.arange(11, dtype=np.uint64)
    assert learned_validation.count(np.array([0, 3, 4, 10, 11], np.uint64), training) == 4
