"""Sources with shares of a stage's tokens: what each gives, wherever the stage ends."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway_trainer.batches.mixed_rows import MixedRows
from slipway_trainer.batches.mixture import Mixture, SourceShare, pack_at_most

LONGEST = 16


@dataclass
class Documents:
    lengths: np.ndarray

    @property
    def weights(self) -> np.ndarray:
        return np.ones(len(self.lengths), np.float32)


lengths_of_sources = st.lists(st.lists(st.integers(1, LONGEST), min_size=1, max_size=30), min_size=1, max_size=4)
ends = st.one_of(
    st.builds(dict, rows=st.integers(1, 90), tokens=st.none()),
    st.builds(dict, rows=st.none(), tokens=st.integers(1, 900)),
)
seeds = st.integers(0, 1000)


def mixed(sources: list[list[int]], parts: list[float], seed: int, end: dict, window_rows: int = 8) -> MixedRows:
    shares = [part / sum(parts) for part in parts]
    mixture = Mixture(tuple(SourceShare(len(own), share) for own, share in zip(sources, shares, strict=True)))
    documents = Documents(np.concatenate([np.array(own, np.int32) for own in sources]))
    return MixedRows(documents, mixture, seed=seed, max_length=LONGEST, window_rows=window_rows, **end)


def parts_of(sources: list[list[int]]) -> list[np.ndarray]:
    return np.split(np.arange(sum(map(len, sources))), np.cumsum([len(own) for own in sources])[:-1])


def seen(rows: MixedRows) -> np.ndarray:
    """How often the stage sees each document."""
    return np.bincount(rows.rows(0, rows.end).documents, minlength=len(rows.documents.lengths))


@given(lengths_of_sources, st.lists(st.floats(0.05, 1), min_size=4, max_size=4), seeds, ends)
def test_wherever_a_stage_ends_each_source_has_its_share_to_within_a_document_of_each(sources, parts, seed, end):
    rows = mixed(sources, parts[: len(sources)], seed, end)
    times = seen(rows)
    tokens = [int((times * rows.documents.lengths)[part].sum()) for part in parts_of(sources)]
    for own, part in zip(tokens, parts, strict=False):
        wanted = sum(tokens) * part / sum(parts[: len(sources)])
        assert abs(own - wanted) <= LONGEST * len(sources)


@given(lengths_of_sources, st.lists(st.floats(0.05, 1), min_size=4, max_size=4), seeds, ends)
def test_no_document_is_seen_twice_more_than_another_of_its_source(sources, parts, seed, end):
    times = seen(mixed(sources, parts[: len(sources)], seed, end))
    for part in parts_of(sources):
        assert times[part].max() - times[part].min() <= 1


@given(lengths_of_sources, seeds, ends)
def test_a_stage_has_the_rows_or_the_tokens_that_it_is_to_see(sources, seed, end):
    rows = mixed(sources, [1.0] * len(sources), seed, end)
    found = rows.rows(0, rows.end)
    assert all(0 < rows.tokens(found.take(np.array([row]))) <= LONGEST for row in range(len(found)))
    if end["rows"]:
        assert len(found) == end["rows"]
    else:
        assert end["tokens"] <= rows.tokens(found) < end["tokens"] + LONGEST


@given(lengths_of_sources, seeds, ends, st.integers(0, 90))
def test_D_an_attempt_that_begins_anywhere_sees_the_same_rows(sources, seed, end, start):
    whole = mixed(sources, [1.0] * len(sources), seed, end)
    start = min(start, whole.end)
    expected = whole.rows(start, whole.end)
    windows = tuple(
        (len(bins), whole.tokens(bins)) for bins in mixed(sources, [1.0] * len(sources), seed, end).windows()
    )
    again = mixed(sources, [1.0] * len(sources), seed, end)
    known = MixedRows(
        whole.documents,
        replace(mixture_of(sources), windows=windows),
        seed=seed,
        max_length=LONGEST,
        window_rows=8,
        **end,
    )
    for stream in (again, known):
        found = stream.rows(start, stream.end)
        assert (found.offsets.tolist(), found.documents.tolist()) == (
            expected.offsets.tolist(),
            expected.documents.tolist(),
        )


def mixture_of(sources: list[list[int]]) -> Mixture:
    return Mixture(tuple(SourceShare(len(own), 1 / len(sources)) for own in sources))


def test_what_is_known_of_the_windows_spares_packing_them(monkeypatch):
    sources, end = [[5] * 40, [7] * 9], {"rows": 90, "tokens": None}
    whole = mixed(sources, [1, 1], 3, end)
    windows = tuple((len(bins), whole.tokens(bins)) for bins in whole.windows())
    assert len(windows) > 5
    known = MixedRows(
        whole.documents, replace(mixture_of(sources), windows=windows), seed=3, max_length=16, window_rows=8, **end
    )
    packed = []
    inner = MixedRows._packed
    monkeypatch.setattr(MixedRows, "_packed", lambda self, number: packed.append(number) or inner(self, number))
    known.rows(known.end - 1, known.end)
    assert packed == [len(windows) - 1]


def test_passes_over_a_source_and_seeds_have_orders_of_their_own():
    one = [4] * 200
    orders = []
    for seed in (0, 1):
        order = mixed([one, one], [1, 1], seed, {"rows": 400, "tokens": None})._order
        documents = np.concatenate([order.window(number) for number in range(40)])
        for first in (0, 200):
            own = documents[(documents >= first) & (documents < first + 200)][:400] - first
            orders += [own[:200].tolist(), own[200:].tolist()]
    assert all(sorted(own) == list(range(200)) for own in orders)
    assert len({tuple(own) for own in orders}) == 8


def test_rows_are_full_but_for_the_last_ones():
    rng = np.random.default_rng(0)
    sources = [rng.integers(1, LONGEST + 1, count).tolist() for count in (4000, 500, 7)]
    rows = mixed(sources, [0.5, 0.3, 0.2], 0, {"rows": 3000, "tokens": None}, window_rows=512)
    assert rows.tokens(rows.rows(0, 3000)) > 0.97 * 3000 * LONGEST


def test_the_sources_are_mixed_all_along():
    rows = mixed([[4] * 999, [4] * 50], [0.75, 0.25], 0, {"rows": 512, "tokens": None}, window_rows=64)
    for start in range(0, 512, 64):
        found = rows.rows(start, start + 64).documents
        assert (found >= 999).mean() == pytest.approx(0.25, abs=0.12)


def test_a_window_has_no_more_documents_than_the_stage_sees_or_can_be_packed_in_a_moment():
    """Rows may be so long that thousands of documents fit into one; all of a window are held and packed together."""
    sources, longest = (SourceShare(9, 0.5), SourceShare(3, 0.5)), 1 << 14
    documents = Documents(np.array([5] * 9 + [20] * 3, np.int32))
    for end, most in (
        ({"tokens": 9000}, 9000 / 8 + 1),
        ({"rows": 1}, longest / 8 + 1),
        ({"rows": 999}, 64 * longest / 8 + 1),
    ):
        rows = MixedRows(documents, Mixture(sources), seed=0, max_length=longest, window_documents=500, **end)
        assert max(len(rows._order.window(number)) for number in range(3)) <= most
        times = seen(rows)
        assert (times * documents.lengths)[:9].sum() == pytest.approx((times * documents.lengths)[9:].sum(), abs=25)
        assert rows.tokens(rows.rows(0, rows.end)) >= end.get("tokens", 0.97 * end.get("rows", 0) * longest)


def test_the_end_is_the_end():
    rows = mixed([[4]], [1], 0, {"rows": 3, "tokens": None})
    with pytest.raises(IndexError):
        rows.rows(2, 4)


@given(st.lists(st.integers(1, LONGEST), min_size=1, max_size=60), st.integers(1, 30))
def test_a_beginning_of_the_documents_is_packed_into_as_many_rows_as_there_are(lengths, rows):
    bins = pack_at_most(np.array(lengths), rows, LONGEST)
    count = len(bins.documents)
    assert sorted(bins.documents.tolist()) == list(range(count))
    assert len(bins) <= rows
    assert len(bins) == rows or count == len(lengths)


def test_the_order_of_a_mixture_is_the_same_in_every_version_of_the_libraries():
    # A resumed stage computes its order again: this one must never change.
    rows = mixed([[5, 3, 8], [1, 7], [2, 6, 4]], [0.5, 0.3, 0.2], 7, {"rows": 5, "tokens": None})
    found = [rows.rows(0, 5).row(row).tolist() for row in range(5)]
    assert found == [[2, 2], [4, 4, 5], [0, 7, 1, 3, 3, 3], [6, 0, 0], [4, 6, 1]]
