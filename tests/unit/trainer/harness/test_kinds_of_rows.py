"""By which reader the rows of a task are read."""

import pytest

from slipway_trainer.harness import worker


@pytest.mark.parametrize(
    ("name", "kind"),
    [("a.jsonl.zst", "json"), ("A.JSONL", "json"), ("a.TSV.gz", "csv"), ("a.parquet", "parquet"), ("a.txt", "text")],
)
def test_a_file_is_read_by_how_its_name_ends_whatever_its_case(name: str, kind: str) -> None:
    assert worker._kind([name]) == (kind, {"sep": "\t"} if "TSV" in name else {})


@pytest.mark.parametrize("name", ["rows.md", "rows"])
def test_a_file_of_no_kind_is_refused_with_those_that_there_are(name: str) -> None:
    with pytest.raises(
        worker._Refused, match=rf"^{name} is none of its kinds of rows: name a file that ends in \.jsonl"
    ):
        worker._kind([name])
