"""What the rows that were looked at say of all of them."""

from types import SimpleNamespace

import numpy as np
import pytest

from slipway_trainer.preview import tally


@pytest.mark.parametrize("most", [64, 65, 99])
def test_rows_longer_than_max_length_stand_in_bins_above_it_and_those_that_reach_it_do_not(most):
    rows = SimpleNamespace(row_lengths=np.array([43] * 300 + [64, most]), scale=1.0)
    told = tally.lengths([rows], 64)
    above = sum(count for low, count in zip(told.edges, told.counts, strict=False) if low >= 64)
    assert above == (most > 64)
    assert sum(told.counts) == 302
