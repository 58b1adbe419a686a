"""Which files a run names, and the run that finds them in the claim."""

import pytest
from tests.unit.cli.evidence import YAML

from slipway.cluster.submit import inputs
from slipway.exit_codes import BadInput
from slipway_core.documents import loading


@pytest.fixture
def folder(tmp_path):
    for name in ("corpus.jsonl", "chat.jsonl", "heldout.jsonl", "data/a.jsonl", "data/deep/b.jsonl", "data/.cache/c"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f'{{"text": "{name}"}}\n')
    return tmp_path


def names(one):
    return [file.name for file in one.files]


def test_every_local_file_of_a_run_is_found_once(folder):
    run = loading.load_run(YAML.format(name="a").replace("chat.jsonl", "corpus.jsonl"))
    assert list(inputs.find(run, folder)) == ["file://corpus.jsonl", "file://heldout.jsonl"]


def test_a_folder_goes_with_all_that_the_trainer_reads_in_it(folder):
    one = inputs.read("file://data", folder)
    assert (names(one), one.tail) == (["data/a.jsonl", "data/deep/b.jsonl"], "data")


@pytest.mark.parametrize(
    ("pattern", "found"),
    [("data/*.jsonl", ["a.jsonl"]), ("data/**/*.jsonl", ["a.jsonl", "deep/b.jsonl"]), ("d?ta/a*", ["data/a.jsonl"])],
)
def test_a_glob_stays_one_below_the_folder_of_its_digest(folder, pattern, found):
    one = inputs.read(f"file://{pattern}", folder)
    assert names(one) == found
    assert one.uri_in("claim") == f"pvc://claim/inputs/{one.digest}/{one.tail}"
    assert pattern.endswith(one.tail)


def test_the_same_content_under_the_same_name_is_the_same_input_wherever_it_lies(folder):
    (folder / "copy").mkdir()
    (folder / "copy" / "corpus.jsonl").write_text((folder / "corpus.jsonl").read_text())
    first, second = (inputs.read(f"file://{path}", folder) for path in ("corpus.jsonl", "copy/corpus.jsonl"))
    assert first.folder == second.folder
    (folder / "corpus.jsonl").write_text("{}\n")
    assert inputs.read("file://corpus.jsonl", folder).folder != first.folder


def test_all_that_is_missing_is_named_with_its_field(folder):
    (folder / "chat.jsonl").unlink()
    (folder / "heldout.jsonl").unlink()
    with pytest.raises(BadInput) as caught:
        inputs.find(loading.load_run(YAML.format(name="a")), folder)
    lines = str(caught.value).splitlines()
    assert lines[0].startswith("spec.stages[1].data.train[0].uri: file://chat.jsonl: there is no /")
    assert lines[1].startswith("spec.evaluation.data[0].uri: file://heldout.jsonl")


def test_a_glob_that_matches_nothing_and_an_empty_folder_are_refused(folder):
    (folder / "empty").mkdir()
    for path in ("empty", "*.parquet"):
        with pytest.raises(BadInput, match="holds no file to send"):
            inputs.read(f"file://{path}", folder)


def test_what_is_applied_is_what_the_file_says_with_its_uris_where_the_data_is(folder):
    run = loading.load_run(YAML.format(name="a"))
    found = inputs.find(run, folder)
    document = inputs.rewritten(run, "slipway-workspace", found)
    uri = document["spec"]["stages"][0]["data"]["train"][0]["uri"]
    assert uri == f"pvc://slipway-workspace/inputs/{found['file://corpus.jsonl'].digest}/corpus.jsonl"
    assert (document["apiVersion"], document["kind"]) == ("slipway.dev/v1alpha1", "TrainingRun")
    # Defaults stay the cluster's: who applies the file again with kubectl owns no other fields.
    assert set(document["spec"]) == {"model", "stages", "evaluation"}
    assert document["spec"]["stages"][0]["optimizer"] == {"learningRate": 3e-3}
