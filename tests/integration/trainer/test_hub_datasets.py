"""Datasets of the hub, by the library datasets and from a server that speaks the hub's protocol."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import pyarrow as arrow
import pytest
from pyarrow import parquet
from tests.integration.fetching.hub_server import AWAY, Hub
from tests.unit.trainer.plans_of_data import causal, numbered, plan, tree, workspace

from slipway_fetching.errors import FetchError, Misconfigured, NoRoom, Unavailable
from slipway_trainer.data import inputs, rows
from slipway_trainer.data.inputs import InputFile, Inputs
from slipway_trainer.model import lineage
from slipway_trainer.prepare import prepare
from slipway_trainer.step.errors import BadConfig, BadData, InputError

ROWS = "hf://datasets/org/rows"
CONFIGS = """\
---
license: mit
configs:
- config_name: english
  data_files:
  - {split: train, path: en/*}
  - {split: test, path: other/en.jsonl}
- config_name: german
  data_files: de.jsonl
---
# A card
"""


def lines(*texts: str) -> bytes:
    return b"".join(json.dumps({"text": text}).encode() + b"\n" for text in texts)


def table(*texts: str, **columns: list[Any]) -> bytes:
    sink = io.BytesIO()
    parquet.write_table(arrow.table({"text": list(texts), **columns}), sink)
    return sink.getvalue()


def collect(folder: Path, uri: str = ROWS, said: list[str] | None = None, **source: Any) -> Inputs:
    made = plan(causal(train=[{"uri": uri, **source}]))
    say = said.append if said is not None else lambda _: None
    return inputs.collect(made, folder / "data", say, commits=folder / "commits")


def files(found: Inputs) -> list[InputFile]:
    return list(found.stages["pretrain"].train[0].files)


def texts(found: Inputs) -> list[str]:
    return [row.text for file in files(found) for block in file.blocks() for row in rows.documents(block)]


def read(folder: Path, uri: str = ROWS, **source: Any) -> list[str]:
    return texts(collect(folder, uri, **source))


SPLITS = {
    "data/train-00000-of-00002.parquet": table("t0", "t1", "t2", "t3"),
    "data/train-00001-of-00002.parquet": table("t4", "t5", "t6", "t7", "t8", "t9"),
    "data/validation-00000-of-00001.parquet": table("v0", "v1"),
    "data/test-00000-of-00001.parquet": table("never"),
}
TRAIN = [f"t{n}" for n in range(10)]


@pytest.fixture
def splits(hub: Hub) -> str:
    return hub.put("datasets/org/rows", SPLITS)


@pytest.mark.parametrize("uri", [ROWS, "hf://org/rows"])
def test_without_a_split_the_one_for_training_is_read_and_nothing_else_is_even_fetched(
    uri: str, hub: Hub, splits: str, tmp_path: Path
) -> None:
    assert read(tmp_path, uri) == TRAIN
    assert sorted(hub.asked) == [name for name in sorted(SPLITS) if "train" in name]


@pytest.mark.parametrize(
    ("split", "expected"),
    [
        ("validation", ["v0", "v1"]),
        ("validation+train", ["v0", "v1", *TRAIN]),
        ("train[:10%]", TRAIN[:1]),
        ("train[3:6]", TRAIN[3:6]),
        ("train[-2:] + validation[:1]", ["t8", "t9", "v0"]),
        ("train[25%:75%]", TRAIN[2:8]),
        ("train[:4]", TRAIN[:4]),
    ],
)
def test_a_split_is_what_the_library_says_it_is(split: str, expected: list[str], splits: str, tmp_path: Path) -> None:
    """Its percents are rounded to the closest row."""
    assert read(tmp_path, split=split) == expected


def test_rows_of_a_slice_keep_the_lines_of_their_file(hub: Hub, tmp_path: Path) -> None:
    content = b"\n" + lines("a", "b") + b"\n\n" + lines("c", "d")
    hub.put("datasets/org/rows", {"train.jsonl": content, "train.csv.gz": b"not read"})
    [file] = files(collect(tmp_path, split="train[1:3]"))
    found = [(row.line, row.text) for block in file.blocks() for row in rows.documents(block)]
    assert found == [(3, "b"), (6, "c")]
    assert file.to_document(ROWS)["rows"] == [1, 3]


def test_what_is_of_no_split_is_said(hub: Hub, tmp_path: Path) -> None:
    hub.put("datasets/org/rows", {"train.jsonl": lines("a"), "train.csv": b"text\nb\n", "dataset_infos.json": b"{}"})
    said = list[str]()
    assert texts(collect(tmp_path, said=said)) == ["a"]
    assert f"{ROWS}: 1 data file(s) are of no split and are not read: train.csv" in said


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"split": "dev"}, r"config default has no split 'dev'; it has train, validation, test$"),
        ({"split": "train[:1]+dev"}, r"config default has no split 'dev'; it has train, validation, test$"),
        ({"split": "train[:110%]"}, r"split train\[:110%\]: Percent slice boundaries"),
        ({"split": "train[5:5]"}, r"split train\[5:5\] holds no row"),
        ({"config": "fr"}, r"has no config 'fr'; it has default$"),
    ],
)
def test_what_a_dataset_does_not_have_is_refused_with_what_it_has(
    source: dict[str, str], message: str, splits: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=rf"^stages\[0\]\.data\.train\[0\]\.uri: {ROWS}: {message}"):
        read(tmp_path, **source)


def test_a_test_split_alone_is_never_taken_for_training(hub: Hub, tmp_path: Path) -> None:
    hub.put("datasets/org/rows", {"test.jsonl": lines("a")})
    with pytest.raises(BadConfig, match=r"has no split called train. Say which by `split`; it has test$"):
        read(tmp_path)
    assert read(tmp_path, split="test") == ["a"]


def test_of_several_configs_one_is_named_unless_one_is_the_default(hub: Hub, tmp_path: Path) -> None:
    content = {"en/b.jsonl": lines("b"), "en/a.jsonl": lines("a"), "de.jsonl": lines("c"), "other/en.jsonl": lines("d")}
    hub.put("datasets/org/rows", {**content, "README.md": CONFIGS.encode()})
    with pytest.raises(BadConfig, match=r"has several configs. Say which by `config` beside the uri: english, german$"):
        read(tmp_path / "none")
    assert read(tmp_path / "one", config="english") == ["a", "b"]
    assert read(tmp_path / "two", config="english", split="test") == ["d"]
    hub.put("datasets/org/rows", {"README.md": CONFIGS.replace("german", "default").encode()})
    assert read(tmp_path / "three") == ["c"]


def test_D_a_branch_that_moves_changes_no_later_attempt(hub: Hub, splits: str, tmp_path: Path) -> None:
    hub.failing.add("data/train-00001-of-00002.parquet")
    with pytest.raises(Unavailable):
        read(tmp_path)
    later = hub.put("datasets/org/rows", {"data/train-00000-of-00002.parquet": table("newer")})
    hub.failing.clear()
    found = collect(tmp_path)
    assert texts(found) == TRAIN
    assert {file.to_document(ROWS)["revision"] for file in files(found)} == {splits}
    assert read(tmp_path / "other", split="train[:1]") == ["newer"]
    assert read(tmp_path / "old", revision=splits) == TRAIN
    assert read(tmp_path / "new", f"{ROWS}@{later}")[0] == "newer"


def test_files_that_are_named_are_taken_as_they_are(hub: Hub, tmp_path: Path) -> None:
    old = hub.put("datasets/org/rows", {"a/x.jsonl": lines("x"), "a/test.jsonl": lines("y"), "a/.z.jsonl": lines("z")})
    hub.put("datasets/org/rows", {"rows.py": b"", "a/x.jsonl": lines("newer"), "a/notes.txt": b"note"})
    assert read(tmp_path, f"{ROWS}/a/x.jsonl") == ["newer"]
    assert read(tmp_path, f"{ROWS}/**/*.jsonl") == ["y", "newer"]
    assert read(tmp_path, f"{ROWS}@{old}/a") == ["y", "x"]
    assert read(tmp_path, f"{ROWS}/a/x.jsonl", revision=old, streaming=True) == ["x"]
    for path, message in (
        ("a", r"holds \.jsonl and \.txt files"),
        ("b/*.jsonl", "there is no data file of that name"),
        ("rows.py", "not a data file"),
    ):
        with pytest.raises(BadData, match=message):
            read(tmp_path, f"{ROWS}/{path}")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"rows.py": b"raise SystemExit", "train.jsonl": lines("a")}, r"made by a program, rows\.py, and .* never run"),
        ({"a.jpg": b"", "b.jpg": b"", "metadata.csv": b"file_name,text\na.jpg,x\n"}, "a.jpg is no file of rows"),
        ({"train.zip": b"PK"}, r"cannot tell its splits|holds no data"),
        ({"train.tar": b""}, r"train\.tar is no file of rows"),
        ({"README.md": b"---\na: [\n---\n", "train.jsonl": lines("a")}, r"its README\.md cannot be read"),
        ({"README.md": b"# nothing"}, "holds no data that could be read"),
        ({"a.csv": b"text\n", "README.md": b"---\nconfigs: [{config_name: a, data_files: a.csv, sep: ;}]\n---\n"},
         r"its card has the files of config a read with sep: ';', which is not built yet\. .*hf://datasets/org/rows/\*\.jsonl"),
        *(
            ({"README.md": f"---\nconfigs:\n- {{config_name: a, {key}: '{path}'}}\n---\n".encode(), "a.jsonl": b""},
             "README.md names files outside the repository")
            for key, path in (
                ("data_files", "/etc/*.jsonl"), ("data_files", "../../*"), ("data_files", "https://example.org/a.jsonl"),
                ("data_files", "zip://a.jsonl::b.zip"), ("data_dir", "/etc"),
            )
        ),
        *(
            ({"README.md": f"---\n{card}\n---\n".encode(), "train.jsonl": lines("a")},
             r"cannot tell its splits: .*Name its files instead, such as hf://datasets/org/rows/\*\.jsonl")
            for card in (
                "configs: [5]", "configs: [{config_name: a, data_files: }]", "dataset_info: {splits: 5}",
                "configs: [{config_name: 2020-01-01, data_files: train.jsonl}]", "dataset_info: {features: 5}",
                "configs: [{config_name: a, data_dir: 5}]", "configs: [{config_name: a, name: b}]",
                "configs: [{config_name: a, data_files: [{split: 5, path: train.jsonl}]}]",
            )
        ),
        ({".huggingface.yaml": b"configs: [{config_name: a, data_files: [{split: train, path: /etc/x.csv}]}]"},
         r"its \.huggingface\.yaml names files outside the repository: '/etc/x\.csv'"),
    ],
)  # fmt: skip
def test_what_is_no_rows_or_reaches_outside_its_repository_is_refused(
    content: dict[str, bytes], message: str, hub: Hub, tmp_path: Path
) -> None:
    hub.put("datasets/org/rows", content)
    with pytest.raises(BadData, match=message):
        read(tmp_path)


def test_H_a_name_that_leaves_the_folder_is_refused(hub: Hub, tmp_path: Path) -> None:
    hub.put("datasets/org/rows", {"../../train.jsonl": lines("a")})
    with pytest.raises(FetchError, match=r"a file called '\.\./\.\./train\.jsonl', which is no name of one"):
        read(tmp_path)


def test_a_hub_that_refuses_says_why(hub: Hub, splits: str, tmp_path: Path) -> None:
    hub.gated.add("datasets/org/rows")
    with pytest.raises(Misconfigured, match=r"cannot be fetched: 403.*private or gated repository needs HF_TOKEN"):
        read(tmp_path)
    with pytest.raises(Misconfigured, match=r"org/none: cannot be fetched: 401"):
        read(tmp_path, "hf://datasets/org/none")
    hub.gated.clear()
    with pytest.raises(Misconfigured, match=r"org/rows@v9: cannot be fetched: 404"):
        read(tmp_path, revision="v9")


@pytest.mark.parametrize("asked_not_to", [True, False])
def test_without_a_hub_what_was_fetched_before_is_found(
    asked_not_to: bool, hub: Hub, splits: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read(tmp_path / "one")
    hub.asked.clear()
    if asked_not_to:
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    else:
        hub.address = AWAY
        hub.used_by(monkeypatch)
    said = list[str]()
    assert texts(collect(tmp_path / "two", said=said)) == TRAIN
    assert hub.asked == []
    assert f"no hub answers: {ROWS} is as it was when it was fetched last, at {splits}" in said
    with pytest.raises(Unavailable, match="the hub does not answer"):
        read(tmp_path / "two", split="test")
    with pytest.raises(Unavailable, match="the hub does not answer: what is streamed is read from there each time"):
        read(tmp_path / "two", streaming=True)


def test_a_disk_that_is_too_small_is_said_before_anything_is_fetched(
    hub: Hub, splits: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = [len(content) for name, content in SPLITS.items() if "train" in name]
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=max(sizes)))
    with pytest.raises(NoRoom, match=r"the data of stages\[0\].*or set streaming: true beside the uri: one file at a"):
        read(tmp_path)
    assert hub.asked == []
    assert read(tmp_path, streaming=True) == TRAIN
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=min(sizes) - 1))
    with pytest.raises(NoRoom, match=r"org/rows/data/train-00000-of-00002\.parquet takes"):
        texts(collect(tmp_path, streaming=True))


def test_columns_that_nothing_asks_for_are_not_looked_into(hub: Hub, tmp_path: Path) -> None:
    pictures = [{"bytes": b"no picture", "path": "a.png"}]
    hub.put("datasets/org/rows", {"train.parquet": table("a", scan=pictures)})
    assert read(tmp_path) == ["a"]
    with pytest.raises(BadData, match=r"train\.parquet: the column 'scan' holds files, such as pictures"):
        read(tmp_path, columns={"text": "scan"})


@pytest.mark.parametrize("in_a_pod", [True, False])
def test_a_stream_gives_the_same_shards_and_keeps_one_file_at_a_time(
    in_a_pod: bool, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if in_a_pod:
        monkeypatch.setenv("SLIPWAY_CLAIMS", "/claims")
    parts = [[row["text"] for row in numbered(20, start)] for start in (0, 20, 40)]
    commit = hub.put(
        "datasets/org/rows",
        {"train-0.parquet": table(*parts[0]), "train-1.parquet": table(*parts[1]), "train-2.jsonl": lines(*parts[2])}
        | {"README.md": b"---\nlicense: mit\nconfigs: [{config_name: all, data_files: 'train-*'}]\n---\n"},
    )
    most = 0
    there = InputFile.blocks

    def watched(self: InputFile) -> Iterator[Any]:
        nonlocal most
        for block in there(self):
            held = [path for path in (tmp_path / "streamed").rglob("train-*") if path.suffix in (".parquet", ".jsonl")]
            most = max(most, len(held))
            yield block

    monkeypatch.setattr(InputFile, "blocks", watched)
    reports = {}
    for name in ("kept", "streamed"):
        made = plan(causal(train=[{"uri": ROWS, "streaming": name == "streamed"}]))
        prepare.run(made, workspace(tmp_path / name, made), attempt=1, say=lambda _: None)
        reports[name] = json.loads((tmp_path / name / "prepare.json").read_text())
        assert lineage.datasets(workspace(tmp_path / name, made)) == [
            {
                "uri": ROWS, "config": "all", "split": "train", "revision": commit, "license": "mit", "bytes": ANY,
                "digest": ANY,
            }
        ]  # fmt: skip
    assert most == 1
    assert reports["kept"]["digest"] == reports["streamed"]["digest"]
    train = [report["stages"]["pretrain"]["train"]["files"] for report in reports.values()]
    assert train[0] == train[1]
    left = [
        path for name in ("kept", "streamed") for path in (tmp_path / name / "fetched").rglob("*") if path.is_file()
    ]
    assert [path.suffix for path in left] == [".commit", ".commit"]


def test_a_stream_whose_bytes_change_is_not_read_on(hub: Hub, splits: str, tmp_path: Path) -> None:
    found = collect(tmp_path, streaming=True)
    assert texts(found) == TRAIN
    hub.repositories["datasets/org/rows"][splits] = {**SPLITS, "data/train-00001-of-00002.parquet": table("forged")}
    with pytest.raises(Unavailable, match=r"train-00001-of-00002\.parquet came otherwise than the hub lists it"):
        texts(found)


def test_D_a_preparation_that_is_started_again_ends_with_the_same_bytes(hub: Hub, tmp_path: Path) -> None:
    held_out = lines("nothing of it is in the rest, which is as it should be")
    prompt = json.dumps({"prompt": "hello?"}).encode()
    content = {"train.jsonl": lines(*(row["text"] for row in numbered(30))), "test.jsonl": held_out}
    commit = hub.put("datasets/org/rows", {**content, "validation.jsonl": prompt})
    made = plan(
        causal(train=[{"uri": ROWS, "split": "train[:50%]"}]),
        data=[{"uri": ROWS, "split": "test"}],
        prompts=[{"uri": ROWS, "split": "validation", "streaming": True}],
    )
    trees = []
    for name in ("one", "two"):
        found = workspace(tmp_path / name, made)
        prepare.run(made, found, attempt=1, say=lambda _: None)
        if name == "two":
            hub.put("datasets/org/rows", {"train.jsonl": lines("another one")})
            found.prepared.unlink()
            prepare.run(made, found, attempt=2, say=lambda _: None)
        assert [one["revision"] for one in lineage.datasets(found)] == [commit] * 3
        trees.append({path: content for path, content in tree(found.root).items() if not path.endswith("fence")})
    assert trees[0] == trees[1]
