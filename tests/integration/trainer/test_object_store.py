"""Data and base models from a real S3 server; the same server speaks enough of Google's protocol for gs://."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from tests.integration.fetching.s3_server import Put
from tests.unit.trainer.plans_of_data import causal, plan, text, workspace
from tests.unit.trainer.tiny_model import make_model, make_tokenizer

from slipway_core.plan import Plan
from slipway_core.protocol import artifact
from slipway_fetching import object_store
from slipway_fetching.errors import FetchError, Misconfigured, NothingThere, Refused, Unavailable
from slipway_fetching.stored_object import StoredObject
from slipway_trainer.data.data_files import data_files
from slipway_trainer.model import lineage, model_files, stage_model
from slipway_trainer.prepare import prepare
from slipway_trainer.step.errors import BadData, DamagedShard
from slipway_trainer.tokens import tokenizer

pytestmark = pytest.mark.usefixtures("keys")

FIELD = "stages[0].data.train[0].uri"
ROWS = b"".join(json.dumps(text(f"row {n}: " + "abcdefg " * n)).encode() + b"\n" for n in range(20))


def names(uri: str, cache: Path) -> list[str]:
    return [file.name for file in data_files(uri, FIELD, cache)]


@pytest.mark.parametrize("scheme", ["s3", "gs"])
def test_data_of_an_object_store_is_prepared(scheme: str, put: Put, tmp_path: Path) -> None:
    put("small/rows.jsonl", ROWS)
    uri = f"{scheme}://data/small/rows.jsonl"
    made = plan(causal(uri))
    found, said = workspace(tmp_path, made), list[str]()
    prepare.run(made, found, attempt=1, say=said.append)
    entry = json.loads(found.prepared.read_text())["stages"]["pretrain"]["train"]["files"][0]
    assert (entry["name"], entry["bytes"]) == (uri, len(ROWS))
    assert f"fetching 1 file(s), 0.0 MB, of {uri}" in said
    assert not found.fetched_data.exists()


def test_a_folder_and_a_glob_name_what_they_name_on_a_disk(put: Put, tmp_path: Path) -> None:
    for key in ("b.jsonl", "a.parquet", "notes.md", ".hidden.jsonl", "deep/c.jsonl.gz", ".git/d.jsonl"):
        put(f"many/{key}", b"x")
    put("many2/e.jsonl", b"x")
    folder = ["s3://data/many/a.parquet", "s3://data/many/b.jsonl", "s3://data/many/deep/c.jsonl.gz"]
    assert names("s3://data/many", tmp_path) == names("s3://data/many/", tmp_path) == folder
    assert names("s3://data/many/*.jsonl", tmp_path) == folder[1:2]
    assert names("s3://data/many/**/*.jsonl*", tmp_path) == folder[1:]


@pytest.mark.parametrize(
    ("uri", "error", "message"),
    [
        ("s3://data/none.jsonl", BadData, "there is no such object"),
        ("gs://data/none.jsonl", BadData, "there is no such object"),
        ("s3://data/none*.jsonl", BadData, "there is no such object"),
        ("s3://nobody/a.jsonl", Misconfigured, "there is no such bucket, nobody"),
        ("s3://data/words.md", BadData, "not a data file"),
        ("s3://data/texts", BadData, "holds no data file"),
    ],
)
def test_what_is_not_there_is_bad_input(
    uri: str, error: type[Exception], message: str, put: Put, tmp_path: Path
) -> None:
    put("words.md", b"x")
    put("texts/words.md", b"x")
    with pytest.raises(error, match=rf"^stages\[0\]\.data\.train\[0\]\.uri: {uri.replace('*', '.')}.*{message}"):
        names(uri, tmp_path)


def test_an_object_of_many_requests_goes_on_where_an_attempt_was_killed(
    put: Put, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_store, "BLOCK", 100)
    content = bytes(n % 251 for n in range(1234))
    put("large.jsonl", content)
    asked, block = list[int](), object_store.ObjectStore._block

    def dies(self: object_store.ObjectStore, found: StoredObject, start: int) -> bytes:
        if start == 800:
            raise Unavailable("the network is gone")
        return block(self, found, start)

    monkeypatch.setattr(object_store.ObjectStore, "_block", dies)
    with pytest.raises(Unavailable):
        names("s3://data/large.jsonl", tmp_path)
    monkeypatch.setattr(object_store.ObjectStore, "_block", lambda *args: (asked.append(args[2]), block(*args))[1])
    [file] = data_files("s3://data/large.jsonl", FIELD, tmp_path)
    assert file.path.read_bytes() == content
    assert min(asked) == 800
    asked.clear()
    names("s3://data/large.jsonl", tmp_path)
    assert not asked
    put("large.jsonl", content[::-1])
    [file] = data_files("s3://data/large.jsonl", FIELD, tmp_path)
    assert file.path.read_bytes() == content[::-1]


def test_an_object_that_changes_while_it_is_fetched_is_never_a_mixture(
    put: Put, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_store, "BLOCK", 100)
    put("moving.jsonl", b"old " * 250)
    block = object_store.ObjectStore._block

    def moves(self: object_store.ObjectStore, found: StoredObject, start: int) -> bytes:
        if start == 800:
            put("moving.jsonl", b"new " * 250)
        return block(self, found, start)

    monkeypatch.setattr(object_store.ObjectStore, "_block", moves)
    with pytest.raises(Unavailable, match="was changed while it was fetched"):
        names("s3://data/moving.jsonl", tmp_path)
    monkeypatch.setattr(object_store.ObjectStore, "_block", block)
    [file] = data_files("s3://data/moving.jsonl", FIELD, tmp_path)
    assert file.path.read_bytes() == b"new " * 250


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base") / "model"
    words = make_tokenizer()
    model_files.write_model(make_model(words), words, folder)
    return folder


def put_folder(put: Put, prefix: str, folder: Path) -> None:
    for path in folder.iterdir():
        put(f"{prefix}/{path.name}", path.read_bytes())


def put_artifact(put: Put, prefix: str, folder: Path) -> None:
    manifest = artifact.build(folder, run="a", plan_digest="sha256:" + "1" * 64, created_at="2026-01-01T00:00:00Z")
    put_folder(put, prefix, folder)
    put(f"{prefix}/manifest.json", artifact.dump(manifest).encode())


def starting_from(put: Put, uri: str) -> Plan:
    put("small/rows.jsonl", ROWS)
    return plan(causal("s3://data/small/rows.jsonl"), model={"from": uri})


@pytest.mark.parametrize("scheme", ["s3", "gs"])
@pytest.mark.parametrize("judged", [True, False])
def test_a_base_model_is_fetched_once_and_every_step_starts_from_it(
    scheme: str, judged: bool, base: Path, put: Put, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefix = f"models/{scheme}-{judged}"
    (put_artifact if judged else put_folder)(put, prefix, base)
    if not judged:
        put(f"{prefix}/pytorch_model.bin", b"a pickle")
        put(f"{prefix}/onnx/model.json", b"{}")
    made = starting_from(put, uri := f"{scheme}://data/{prefix}/")
    found = workspace(tmp_path, made)
    prepare.run(made, found, attempt=1, say=lambda _: None)
    for name in ("AWS_ENDPOINT_URL", "GOOGLE_BASE_URL"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    [folder] = found.fetched_models.iterdir()
    fetched = {path.name for path in folder.iterdir()}
    assert fetched == {path.name for path in base.iterdir()} | ({"manifest.json"} if judged else set())
    model = stage_model.load_for_stage(made, found, "pretrain", device=torch.device("cpu"), dtype=torch.float32)
    expected = stage_model.load_folder(base, dtype=torch.float32)
    assert torch.equal(model.get_input_embeddings().weight, expected.get_input_embeddings().weight)
    # The same files have the same digest wherever they came from.
    assert lineage.base(made, found) == {
        "uri": uri,
        "digest": lineage.base(plan(causal("file:///a.jsonl"), model={"from": f"file://{base}"}), found)["digest"],
    }


def test_a_fetched_model_that_was_removed_is_fetched_again(base: Path, put: Put, tmp_path: Path) -> None:
    put_folder(put, "models/again", base)
    made = starting_from(put, "s3://data/models/again")
    found = workspace(tmp_path, made)
    prepare.run(made, found, attempt=1, say=lambda _: None)
    [folder] = found.fetched_models.iterdir()
    folder.rename(tmp_path / "elsewhere")
    with pytest.raises(DamagedShard):
        stage_model.load_composed(made, found, None)
    prepare.run(made, found, attempt=2, say=lambda _: None)
    stage_model.load_composed(made, found, None)


def test_a_model_that_is_not_what_its_manifest_says_is_refused_and_fetched_anew(
    base: Path, put: Put, tmp_path: Path
) -> None:
    put_artifact(put, "models/damaged", base)
    weights = (base / "model.safetensors").read_bytes()
    put("models/damaged/model.safetensors", weights[:-1] + b"x")
    made = starting_from(put, "s3://data/models/damaged")
    found = workspace(tmp_path, made)
    with pytest.raises(Refused, match=r"model\.safetensors is not what the manifest says"):
        prepare.run(made, found, attempt=1, say=lambda _: None)
    put("models/damaged/model.safetensors", weights)
    prepare.run(made, found, attempt=2, say=lambda _: None)
    assert len(list(found.fetched_models.iterdir())) == 1


@pytest.mark.parametrize(
    ("files", "error", "message"),
    [
        ({}, NothingThere, "there is nothing. Check the name"),
        ({"model.safetensors": b"x"}, Refused, r"has no config\.json"),
        ({"config.json": b"{}", "pytorch_model.bin": b"x"}, Refused, r"no \*\.safetensors but pytorch_model\.bin"),
        ({"config.json": b"{}", "manifest.json": b"{}"}, Refused, "damaged manifest"),
    ],
)
def test_what_is_no_model_is_refused(
    files: dict[str, bytes], error: type[FetchError], message: str, put: Put, tmp_path: Path
) -> None:
    prefix = f"models/bad-{len(message)}"
    for name, content in files.items():
        put(f"{prefix}/{name}", content)
    made = starting_from(put, f"s3://data/{prefix}")
    with pytest.raises(error, match=rf"^model\.from: s3://data/{prefix}: .*{message}"):
        prepare.run(made, workspace(tmp_path, made), attempt=1, say=lambda _: None)


def test_a_tokenizer_is_fetched_without_its_weights(base: Path, put: Put, tmp_path: Path) -> None:
    put_artifact(put, "models/words", base)
    scratch = {"hiddenSize": 64, "heads": 2, "maxLength": 128, "tokenizer": {"from": "s3://data/models/words"}}
    put("small/rows.jsonl", ROWS)
    made = plan(causal("s3://data/small/rows.jsonl"), model={"scratch": scratch})
    found, said = workspace(tmp_path, made), list[str]()
    prepare.run(made, found, attempt=1, say=said.append)
    assert tokenizer.load(found).get_vocab() == make_tokenizer().get_vocab()
    weights = (base / "model.safetensors").stat().st_size
    size = sum(path.stat().st_size for path in base.iterdir()) - weights
    assert f"fetching {len(list(base.iterdir())) - 1} file(s), {size / 1e6:.1f} MB, of s3://data/models/words" in said
