import numpy as np
import pytest

from slipway_trainer.batches import micro_rows
from slipway_trainer.batches.packing import pack

LENGTHS = np.array([5, 17, 3, 30, 9, 30, 2, 12, 1], np.int32)
BINS = pack(LENGTHS, 32)


def batches(rank=0, world=1, packed=False, micro=2):
    return micro_rows.of_rank(BINS, LENGTHS, rank=rank, world=world, micro_batch=micro, max_length=32, packed=packed)


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("world", [1, 2, 3, 7])
def test_the_ranks_have_every_document_once_and_equally_many_batches(packed, world):
    of_ranks = [batches(rank, world, packed) for rank in range(world)]
    assert len({len(found) for found in of_ranks}) == 1
    assert sorted(d for found in of_ranks for part in found for d in part.documents) == list(range(len(LENGTHS)))


def test_packed_rows_stay_as_they_are():
    found = batches(packed=True)
    assert [len(part) for part in found] == [2] * (len(BINS) // 2) + [1] * (len(BINS) % 2)
    assert [list(part.row(0)) for part in found] == [list(BINS.row(at)) for at in range(0, len(BINS), 2)]


@pytest.mark.parametrize("micro", [1, 2, 5])
def test_single_documents_take_no_more_memory_than_packed_rows(micro):
    found = batches(micro=micro)
    assert all(len(part.row(at)) == 1 for part in found for at in range(len(part)))
    widths = [-(-int(LENGTHS[part.documents].max()) // 8) * 8 for part in found]
    assert all(width * len(part) <= micro * 32 for width, part in zip(widths, found, strict=True))
    assert widths == sorted(widths, reverse=True)
