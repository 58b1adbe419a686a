import gzip
import re
from pathlib import Path

import pytest

from slipway_trainer.data.data_files import data_files
from slipway_trainer.model.model_folder import model_folder
from slipway_trainer.step.errors import BadConfig, BadData, BadModel


def names(uri: str, cache: Path = Path("/nonexistent")) -> list[str]:
    return [file.path.name for file in data_files(uri, "stages[0].data.train[0].uri", cache)]


@pytest.fixture
def folder(tmp_path):
    for name in ("b.jsonl", "a.parquet", "notes.md", ".hidden.jsonl", "deep/c.jsonl.gz", ".git/d.jsonl"):
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
    found = data_files(f"file://{folder}", "field", folder)
    assert [file.name for file in found][-1] == f"{folder}/deep/c.jsonl.gz"


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("file:///no/such/file.jsonl", r"there is no such file \(/ exists, no in it does not\)"),
        ("file://{}/x.jsonl", "there is no such file"),
        ("file://{}/*.xml", r"matches no data file"),
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
        model_folder("file:///opt/slipway/examples/model")
    with pytest.raises(BadData, match=r"there is no such file(?!.*image)"):
        names("pvc://data/none.jsonl")


def test_a_slash_too_many_does_not_turn_a_path_of_a_claim_into_one_of_the_image(monkeypatch, tmp_path):
    (tmp_path / "claims/data").mkdir(parents=True)
    (tmp_path / "claims/data/a.jsonl").write_text("{}")
    monkeypatch.setenv("SLIPWAY_CLAIMS", str(tmp_path / "claims"))
    assert [file.path for file in data_files("pvc://data//a.jsonl", "f", tmp_path)] == [
        tmp_path / "claims/data/a.jsonl"
    ]
