"""A file of which every row is counted and some are looked at."""

import gzip
import json

import pyarrow
import pyarrow.parquet
import pytest
from tests.unit.trainer.plans_of_data import causal, plan

from slipway_trainer.data import inputs, rows
from slipway_trainer.data.inputs import InputFile
from slipway_trainer.preview.sampled_file import SampledFile, each_row, sampled
from slipway_trainer.step.errors import BadData

TEXTS = [f"text {n} {'x' * (n % 50)}" for n in range(5000)]


def found(path) -> InputFile:
    collected = inputs.collect(plan(causal(f"file://{path}")), path.parent / "cache")
    return collected.stages["pretrain"].train[0].files[0]


def written(folder, kind):
    path = folder / f"a{kind}"
    match kind:
        case ".jsonl":
            path.write_text("".join(json.dumps({"text": text}) + "\n\n" for text in TEXTS))
        case ".jsonl.gz":
            path.write_bytes(gzip.compress("".join(json.dumps({"text": text}) + "\n" for text in TEXTS).encode()))
        case ".json":
            path.write_text(json.dumps([{"text": text} for text in TEXTS], indent=1))
        case ".csv":
            path.write_text("text\n" + "".join(f'"{text}\nmore"\n' for text in TEXTS))
        case ".parquet":
            pyarrow.parquet.write_table(pyarrow.table({"text": TEXTS}), path, row_group_size=700)
    return path


@pytest.mark.parametrize("kind", [".jsonl", ".jsonl.gz", ".json", ".csv", ".parquet"])
def test_every_row_is_counted_and_those_that_are_looked_at_keep_their_line(tmp_path, kind):
    whole = found(written(tmp_path, kind))
    lines = {doc.line: doc.text for block in whole.blocks() for doc in rows.documents(block)}
    part = sampled([whole], budget=whole.text_bytes // 10)[whole.key]
    looked = {doc.line: doc.text for block in part.blocks() for doc in rows.documents(block)}
    assert part.rows == 5000
    assert part.looked_at == len(looked)
    assert 300 < len(looked) < 700
    assert looked.items() < lines.items()


def test_the_same_rows_are_looked_at_each_time_and_small_files_whole(tmp_path):
    large = found(written(tmp_path, ".jsonl"))
    (tmp_path / "small").mkdir()
    small_path = tmp_path / "small" / "b.jsonl"
    small_path.write_text('{"text": "one"}\n')
    small = found(small_path)
    budget = large.text_bytes // 10
    one, two = (sampled([large, small], budget=budget) for _ in range(2))
    assert one[small.key].share == 1
    assert list(one[small.key].blocks()) == list(small.blocks())
    assert [b.payload for b in one[large.key].blocks()] == [b.payload for b in two[large.key].blocks()]


def test_each_row_of_a_block_is_a_block_with_its_line(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "one"}\n\n{"text": "three"}\n')
    block = next(iter(found(path).blocks()))
    assert [(doc.line, doc.text) for row in each_row(block) for doc in rows.documents(row)] == [
        (1, "one"),
        (3, "three"),
    ]


def test_a_file_that_is_cut_gives_nothing_each_time_it_is_asked(tmp_path):
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(b"".join(b'{"text": "%d"}\n' % n for n in range(100_000)))[:-100])
    part = SampledFile(**vars(found(path)), share=0.5)
    for _ in range(2):
        with pytest.raises(BadData, match="line"):
            list(part.blocks())
