from __future__ import annotations

import pytest

from slipway_core.protocol import step_result
from slipway_core.protocol.sketch import HASHES, hashes_of, sketch_of
from slipway_core.protocol.step_result import RESULT_LIMIT, StepResult


def test_a_sketch_is_the_same_whatever_the_order_and_however_often() -> None:
    texts = [f"文 {number}" for number in range(1000)]
    assert sketch_of(texts) == sketch_of([*reversed(texts), *texts[:10]])
    assert len(hashes_of(sketch_of(texts))) == HASHES
    assert hashes_of(sketch_of(texts)) == sorted(hashes_of(sketch_of(texts)))
    assert hashes_of(sketch_of([])) == []
    assert len(hashes_of(sketch_of(["one", "two"]))) == 2


def test_what_two_sets_share_is_seen_in_their_sketches() -> None:
    """Of the HASHES smallest hashes of both together, the share that both sketches have estimates the sets' own."""
    ours = set(hashes_of(sketch_of(str(number) for number in range(1000))))
    theirs = set(hashes_of(sketch_of(str(number) for number in range(500, 1500))))
    together = sorted(ours | theirs)[:HASHES]
    share = sum(one in ours and one in theirs for one in together) / HASHES
    assert share == pytest.approx(1 / 3, abs=0.18), "three standard errors"


@pytest.mark.parametrize("metrics", [0, 40, 90])
def test_a_result_keeps_as_much_of_it_as_fits(metrics: int) -> None:
    sketch = sketch_of(str(number) for number in range(100))
    result = StepResult(
        step="prepare",
        attempt=1,
        metrics={f"{'m' * 30}{number:02}": 1.0 for number in range(metrics)},
        held_out_sketch=sketch,
    )
    text = step_result.encode(result)
    assert len(text.encode()) <= RESULT_LIMIT
    kept = step_result.decode(text).held_out_sketch
    assert kept
    assert sketch.startswith(kept)
    assert (kept == sketch) == (metrics < 90)
