"""Student's t against SciPy's."""

from __future__ import annotations

import pytest
from scipy.special import stdtrit

from slipway_trainer.bounds import student


@pytest.mark.parametrize("freedom", [1, 1.5, 2, 3.3, 7, 29.5, 31, 100, 1e4, 10_001, 1e7])
@pytest.mark.parametrize("confidence", [0.5, 0.6, 0.9, 0.95, 0.999, 0.99999])
def test_a_quantile_is_that_of_scipy(freedom: float, confidence: float) -> None:
    assert student.quantile(freedom, confidence) == pytest.approx(stdtrit(freedom, confidence), rel=1e-4, abs=1e-9)
