"""Mixtures, from files to shards, report and the rows that a stage sees."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.unit.trainer.plans_of_data import causal, chat, chatting, numbered, plan, text, tree, workspace, write_rows

from slipway_trainer.batches import mixed_rows, row_stream
from slipway_trainer.batches.shards import Shards
from slipway_trainer.prepare import prepare, prepare_report
from slipway_trainer.step.errors import BadData

LONGEST = 32
SAID: list[str] = []


def run(folder: Path, made: Any, **options: Any) -> tuple[Any, Any]:
    found = workspace(folder, made)
    SAID.clear()
    prepare.run(made, found, attempt=1, say=SAID.append, **options)
    return found, json.loads(found.prepared.read_text())


def sources(folder: Path, *sizes: int) -> list[str]:
    return [write_rows(folder / f"{n}.jsonl", *numbered(size, 100 * n)) for n, size in enumerate(sizes)]


def mixed(uris: list[str], proportions: list[float] | None, **settings: Any) -> dict[str, Any]:
    stage = causal(*uris, max_length=LONGEST, **settings.pop("data", {}))
    for source, share in zip(stage["data"]["train"], proportions or [], strict=False):
        source["proportion"] = share
    return stage | {"batch": {"sequences": 4}} | settings


def seen(found: Any, made: Any) -> np.ndarray:
    """How often the stage sees each document of its shards."""
    stage, shards = made.stages[0], Shards.open(found.stage("pretrain").data("train"))
    rows = mixed_rows.of_stage(stage, shards, shards.mixture)
    extent = row_stream.extent(stage, rows)
    steps = [rows.rows(*extent.window(step)).documents for step in range(extent.steps)]
    return np.bincount(np.concatenate(steps), minlength=shards.n_documents)


@pytest.mark.parametrize("end", [{"steps": 25}, {"steps": 3}, {"tokens": 3000}, {"tokens": 40_000}])
def test_what_a_stage_sees_of_each_source_is_its_share_of_the_tokens(tmp_path, end):
    made = plan(mixed(sources(tmp_path, 90, 20, 3), [0.5, 0.3, 0.2], **end))
    found, report = run(tmp_path / "run", made)
    shards, times = Shards.open(found.stage("pretrain").data("train")), seen(found, made)
    counts = report["stages"]["pretrain"]["train"]
    tokens, first = times * shards.lengths, 0
    for source, asked in zip(counts["sources"], (0.5, 0.3, 0.2), strict=True):
        own = slice(first, first + source["documents"])
        first += source["documents"]
        share = tokens[own].sum() / tokens.sum()
        assert abs(share - asked) <= 3 * LONGEST / tokens.sum()
        assert times[own].max() - times[own].min() <= 1
        assert (source["asked"], source["share"]) == (asked, pytest.approx(share, abs=1e-6))
        assert source["seen"] == [times[own].min(), times[own].max()]
        assert source["tokens"] == shards.lengths[own].sum()
    assert [source["rows"] for source in counts["sources"]] == [90, 20, 3]
    assert first == shards.n_documents
    metrics = prepare_report.metrics(report)
    assert [metrics[f"pretrain_train_share_{n}"] for n in range(3)] == [s["share"] for s in counts["sources"]]
    assert any("2.jsonl: 3 rows" in line and "20.00% asked for, each document" in line for line in SAID)


@pytest.mark.parametrize(("temperature", "power"), [(1, 1.0), (3, 1 / 3)])
def test_a_temperature_takes_the_shares_from_the_sizes(tmp_path, temperature, power):
    uris = sources(tmp_path, 90, 10)
    found, report = run(tmp_path / "run", plan(mixed(uris, None, tokens=30_000, data={"temperature": temperature})))
    counts = report["stages"]["pretrain"]["train"]["sources"]
    sizes = np.array([source["tokens"] for source in counts], float) ** power
    for source, wanted in zip(counts, sizes / sizes.sum(), strict=True):
        assert source["asked"] == pytest.approx(wanted, abs=1e-6)
        assert source["share"] == pytest.approx(wanted, abs=2 * LONGEST / 30_000)
    assert found


def test_D_whatever_the_number_of_processes_the_bytes_are_the_same(tmp_path):
    made = plan(mixed(sources(tmp_path, 60, 9), [0.5, 0.5], steps=20, data={"validation": {"fraction": 0.1}}))
    for workers in (1, 2):
        run(tmp_path / str(workers), made, workers=workers)
    assert tree(tmp_path / "1") == tree(tmp_path / "2")


def test_by_weight_the_report_says_what_an_epoch_sees(tmp_path):
    stage = mixed(sources(tmp_path, 60, 30), None)
    stage["data"]["train"][1]["weight"] = 2.5
    found, report = run(tmp_path / "run", plan(stage))
    one, two = report["stages"]["pretrain"]["train"]["sources"]
    assert Shards.open(found.stage("pretrain").data("train")).mixture is None
    assert (one["asked"], one["seen"], two["seen"]) == (None, [1, 1], [2, 3])
    assert one["share"] == pytest.approx(one["tokens"] / (one["tokens"] + 2.5 * two["tokens"]), abs=1e-6)


def test_a_source_of_which_nothing_is_learned_has_no_share(tmp_path):
    fits = write_rows(tmp_path / "a.jsonl", chat("a", "b"))
    long = write_rows(tmp_path / "b.jsonl", chat("a", " ".join(row["text"] for row in numbered(9))))
    stage = chatting(fits, long, max_length=64) | {"steps": 5}
    for source in stage["data"]["train"]:
        source["proportion"] = 0.5
    with pytest.raises(BadData, match=r"data\.train\[1\]\.uri: .*b\.jsonl: nothing of its 1 rows is learned"):
        run(tmp_path / "run", plan(stage))


def test_a_source_that_is_left_out_for_others_has_no_share(tmp_path):
    uris = [write_rows(tmp_path / name, text("a"), text("b")) for name in ("a.jsonl", "b.jsonl")]
    with pytest.raises(BadData, match=r"b\.jsonl: all of its rows are left out by data\.deduplicate or set aside"):
        run(tmp_path / "run", plan(mixed(uris, [0.5, 0.5], steps=4, data={"deduplicate": "Exact"})))


def test_a_file_that_is_given_twice_has_the_share_of_its_place_once_duplicates_are_left_out(tmp_path):
    one = write_rows(tmp_path / "a.jsonl", text("a"), text("b"))
    two = write_rows(tmp_path / "b.jsonl", text("b"), text("c"))
    made = plan(mixed([one, two], [0.5, 0.5], steps=4, data={"deduplicate": "Exact"}))
    _, report = run(tmp_path / "run", made)
    assert [source["rows"] for source in report["stages"]["pretrain"]["train"]["sources"]] == [2, 1]
