"""The room that prepared data takes."""

import pytest
from tests.unit.trainer.plans_of_data import causal, numbered, plan, write_rows

from slipway_trainer.data import inputs
from slipway_trainer.prepare import prepared_size
from slipway_trainer.step.errors import NoSpace


def test_too_little_space_is_said_before_anything_is_written(tmp_path):
    with pytest.raises(NoSpace, match=r"needs about 1000000\.0 GB and [\d.]+ GB are free"):
        prepared_size.check_space(tmp_path, needed=10**15)
    prepared_size.check_space(tmp_path, needed=1)


def test_space_grows_with_the_data(tmp_path):
    small, large = (
        inputs.collect(plan(causal(write_rows(tmp_path / f"{n}.jsonl", *numbered(n)))), tmp_path) for n in (10, 1000)
    )
    made = prepared_size.needed_bytes(large) - prepared_size.needed_bytes(small)
    assert made >= 1.4 * ((tmp_path / "1000.jsonl").stat().st_size - (tmp_path / "10.jsonl").stat().st_size)
