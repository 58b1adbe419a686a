import gzip
import re
from pathlib import Path

import pytest

from slipway_trainer import sources
from slipway_trainer.errors import BadConfig, BadData, BadModel, DamagedShard


def names(uri: str, cache: Path = Path("/nonexistent")) -> list[str]:
    return [file.path.name for file in sources.data_files(uri, "stages[0].data.train[0].uri", cache)]


@pytest.fixture
def folder(tmp_path):
    for name in ("b.jsonl", "a.parquet", "notes.txt", ".hidden.jsonl", "deep/c.jsonl.gz", ".git/d.jsonl"):
        path = tmp_path / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(b"{}") if name.endswith("gz") else b"{}")
    return tmp_path / "data"


def test_a_file_a_folder_and_a_glob_name_their_data_files_in_order(folder):
    assert names(f"file://{folder}/b.jsonl") == ["b.jsonl"]
    assert names(f"file://{folder}") == ["a.parquet", "b.jsonl", "c.jsonl.gz"]
    assert names(f"file://{folder}/*.jsonl") == ["b.jsonl"]
    assert names(f"file://{folder}/**/*.jsonl*") == ["b.jsonl", "c.jsonl.gz"]


def test_files_of_a_folder_are_named_so_that_a_user_finds_them(folder):
    found = sources.data_files(f"file://{folder}", "field", folder)
    assert [file.name for file in found][-1] == f"{folder}/deep/c.jsonl.gz"


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("file:///no/such/file.jsonl", r"there is no such file \(/ exists, no in it does not\)"),
        ("file://{}/x.jsonl", "there is no such file"),
        ("file://{}/*.csv", r"matches no \.jsonl"),
        ("file://{}/empty", "the folder holds no"),
        ("package://nothing-like-it", "there is no such sample data; there is"),
    ],
)
def test_what_is_not_there_is_named_with_its_field(folder, uri, message):
    (folder / "empty").mkdir()
    with pytest.raises(BadData, match=rf"^stages\[0\]\.data\.train\[0\]\.uri: .*{message}"):
        names(uri.format(folder))


def test_a_model_is_no_data():
    with pytest.raises(BadConfig, match="is a model, not data"):
        names("run://other")


@pytest.mark.parametrize("uri", ["file:///opt/slipway/examples/none.jsonl", "file:///opt/slipway/none/*.jsonl"])
def test_in_a_pod_a_file_that_is_not_there_says_whose_files_these_are(monkeypatch, uri):
    hint = "file:// is a file of the image; `slipway submit FILE` sends yours along"
    with pytest.raises(BadData) as here:
        names(uri)
    monkeypatch.setenv("SLIPWAY_CLAIMS", "/claims")
    with pytest.raises(BadData) as in_a_pod:
        names(uri)
    assert (hint in str(here.value), hint in str(in_a_pod.value)) == (False, True)
    with pytest.raises(BadModel, match=re.escape(hint)):
        sources.model_folder("file:///opt/slipway/examples/model")
    with pytest.raises(BadData, match=r"there is no such file(?!.*image)"):
        names("pvc://data/none.jsonl")


def test_a_fetched_model_that_is_gone_is_prepared_again(tmp_path):
    with pytest.raises(DamagedShard, match=r"model\.from: s3://models/base: .* is gone"):
        sources.model_folder("s3://models/base", fetched=tmp_path)
    with pytest.raises(BadConfig, match=r"tokenizer: s3://models/base: a model is not read from s3://"):
        sources.model_folder("s3://models/base", "tokenizer")


def test_a_model_folder_is_one_that_is_there(tmp_path):
    assert sources.model_folder(f"file://{tmp_path}") == tmp_path
    with pytest.raises(BadModel, match=r"model\.from: .*there is no such folder"):
        sources.model_folder(f"file://{tmp_path}/none")
    (tmp_path / "file").write_text("")
    with pytest.raises(BadModel, match="is not a folder"):
        sources.model_folder(f"file://{tmp_path}/file")


def test_runs_and_claims_lie_where_the_executor_says(tmp_path, monkeypatch):
    with pytest.raises(BadConfig, match="did not set SLIPWAY_RUNS"):
        sources.model_folder("run://base")
    (tmp_path / "base" / "artifact").mkdir(parents=True)
    monkeypatch.setenv("SLIPWAY_RUNS", str(tmp_path))
    monkeypatch.setenv("SLIPWAY_CLAIMS", str(tmp_path))
    assert sources.model_folder("run://base") == tmp_path / "base" / "artifact"
    assert sources.model_folder("pvc://base/artifact") == tmp_path / "base" / "artifact"
