"""What a model has learned from can be looked up later, in a sample that stays small."""

import io
import random
import zipfile

import numpy as np
import pytest

from slipway_trainer.data import passage_sample
from slipway_trainer.data.passage_sample import MOST, NAME, Collector, PassageSample

ALL = passage_sample.below(1)


def texts(count: int, length: int, seed: int = 0) -> list[list[str]]:
    rng = random.Random(seed)
    return [[f"w{rng.randrange(10**6)}" for _ in range(length)] for _ in range(count)]


def sample(rows: list[list[str]], below: int = ALL) -> PassageSample:
    collector = Collector(below)
    for start in range(0, len(rows), 50):
        collector.add(passage_sample.of(rows[start : start + 50], below))
    return collector.result()


def test_all_passages_of_little_data_are_known_and_no_others():
    rows = [*texts(20, 40), *texts(3, 9, seed=1)]
    found = sample(rows)
    assert (found.rate, len(found.hashes)) == (1.0, 20 * 28 + 3)
    for row in rows:
        passages = passage_sample.of([["before", *row, "after"] if len(row) > 13 else row], found.below)
        assert found.known(passages) == max(len(row) - 12, 1)
    assert found.known(passage_sample.of(texts(20, 40, seed=2), found.below)) == 0
    # No passage goes over from one text into the next.
    assert found.known(passage_sample.of([rows[0][-7:] + rows[1][:7]], found.below)) == 0


def test_of_much_data_a_stated_share_is_known_in_bounded_space_whatever_its_order():
    rows = texts(400, 1000)
    found, other = sample(rows), sample(rows[::-1])
    assert (found.below, found.hashes.tolist()) == (other.below, other.hashes.tolist())
    assert len(found.hashes) == MOST
    assert len(found.to_bytes()) < (1 << 20) + 200
    assert found.rate == pytest.approx(MOST / (400 * 988), rel=0.01)
    looked_up = passage_sample.of(rows[7:9], found.below)
    assert len(looked_up) == pytest.approx(2 * 988 * found.rate, rel=0.2)
    assert found.known(looked_up) == len(looked_up)


def test_the_threshold_leaves_enough_to_choose_from():
    assert passage_sample.below(MOST) == ALL
    # A unit has three bytes at the least, but for short words: of 1 GB a sample is taken that is full all the same.
    assert 4 * MOST < passage_sample.below(10**9) / ALL * 10**9 / 5 < 8 * MOST


def test_the_samples_of_two_trainings_are_joined():
    much, little = sample(texts(200, 1000)), sample(texts(10, 30, seed=3))
    both = much.joined(little)
    passages = passage_sample.of([*texts(200, 1000)[:2], *texts(10, 30, seed=3)], both.below)
    assert both.known(passages) == len(passages) > 0


def test_a_sample_is_read_as_it_was_written(tmp_path):
    assert passage_sample.read(tmp_path) is None
    found = sample(texts(5, 50))
    (tmp_path / NAME).write_bytes(found.to_bytes())
    read = passage_sample.read(tmp_path)
    assert read is not None
    assert (read.below, read.hashes.tolist()) == (found.below, found.hashes.tolist())
    (tmp_path / NAME).write_bytes(found.to_bytes()[:-3])
    with pytest.raises(ValueError, match=r"reshape|data|size"):
        passage_sample.read(tmp_path)
    np.save(tmp_path / NAME, np.zeros(3))
    with pytest.raises(ValueError, match="holds no sample"):
        passage_sample.read(tmp_path)


def header(shape: str) -> bytes:
    words = f"{{'descr': '<u8', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(words).to_bytes(2, "little") + words.encode()


def empty_archive() -> bytes:
    file = io.BytesIO()
    zipfile.ZipFile(file, "w").close()
    return file.getvalue()


@pytest.mark.parametrize(
    "content",
    [b"", empty_archive(), header("(1000000000000000,)"), header("((((((((("), b"x" * (8 * MOST + 8192)],
    ids=["empty", "archive", "more than memory", "header", "too large"],
)
def test_a_damaged_sample_is_said_to_be_damaged_whatever_it_holds(tmp_path, content):
    (tmp_path / NAME).write_bytes(content)
    with pytest.raises(ValueError, match=NAME):
        passage_sample.read(tmp_path)
