from __future__ import annotations

import random

import pytest

from slipway_core.protocol import step_result
from slipway_core.protocol.sketch import HASHES, hashes_of, shares, sketch_of
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


@pytest.mark.parametrize("smaller", [400, 1000])
@pytest.mark.parametrize(("share", "missed"), [(0.01, 0.53), (0.05, 0.038), (0.1, 0.0012)])
def test_how_often_sketches_miss_that_two_sets_share_texts_is_what_is_said(
    smaller: int, share: float, missed: float
) -> None:
    """The larger set has 1,000 texts, of which the smaller one has 1, 5 or 10 %; hashes are drawn, as SHA-256's are."""
    draw, shared, tries = random.Random(7), round(1000 * share), 400
    found = 0
    for _ in range(tries):
        hashes = [f"{draw.getrandbits(64):016x}" for _ in range(1000 + smaller - shared)]
        ours, theirs = hashes[:1000], hashes[1000 - shared :]
        found += shares("".join(sorted(ours)[:HASHES]), "".join(sorted(theirs)[:HASHES]))
    assert missed == pytest.approx((1 - share) ** HASHES, rel=0.05)
    assert 1 - found / tries == pytest.approx(missed, abs=4 * (missed * (1 - missed) / tries) ** 0.5)


def test_of_small_sets_one_shared_text_is_seen_and_sets_without_one_never_are() -> None:
    ours = [f"ours {number}" for number in range(HASHES - 1)]
    theirs = [f"theirs {number}" for number in range(HASHES - 1)]
    assert shares(sketch_of([*ours, "one"]), sketch_of([*theirs, "one"]))
    assert not shares(sketch_of(ours), sketch_of(theirs))
    assert not shares(sketch_of([]), sketch_of([]))


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


@pytest.mark.parametrize(("stages", "kept"), [(1, 2), (5, 10), (16, 16)])
def test_a_result_names_what_every_stage_learns_from_whatever_else_has_to_go(stages: int, kept: int) -> None:
    names = [f"{'s' * 60}-{number:02}" for number in range(stages)]
    made = {f"{name}/{split}": f"sha256:{'7' * 64}" for name in names for split in ("train", "validation")}
    sketch = sketch_of(str(number) for number in range(100))
    metrics = {f"{'m' * 20}{number:02}": 1.0 for number in range(40)}
    result = StepResult(step="prepare", attempt=1, metrics=metrics, held_out_sketch=sketch, training_data=made)
    text = step_result.encode(result)
    assert len(text.encode()) <= RESULT_LIMIT
    found = step_result.decode(text)
    assert found.held_out_sketch == sketch
    assert found.training_data is not None
    assert len(found.training_data) == kept
    assert {f"{name}/train" for name in names} <= found.training_data.keys() <= made.keys()
