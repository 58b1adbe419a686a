"""A live version that lies in an object store or on the hub is compared with, as the server that serves it knows it."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.integration.fetching.hub_server import Hub
from tests.integration.fetching.s3_server import Put
from tests.unit.trainer.tiny_model import make_model, make_tokenizer
from tests.unit.trainer.trained_run import TrainedRun, make_run

from slipway_core.protocol import artifact
from slipway_fetching import served_model
from slipway_fetching.errors import Unavailable
from slipway_fetching.hub import HubRepository
from slipway_fetching.stored_object import StoredObject
from slipway_trainer.evaluation import evaluate, live_model
from slipway_trainer.model import model_files
from slipway_trainer.step.errors import Superseded
from slipway_trainer.step.fence import Fence

GATE = {"metric": "bits_per_byte", "maxRegression": 0.02}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> TrainedRun:
    return make_run(tmp_path_factory.mktemp("run"), gates=[{"metric": "bits_per_byte", "max": 100}, GATE]).export()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another model, without a manifest."""
    folder, words = tmp_path_factory.mktemp("live") / "model", make_tokenizer()
    model_files.write_model(make_model(words, positions=48, seed=3), words, folder)
    return folder


def _digest(uri: str, folder: Path) -> str:
    """What the init container of a server says of it."""
    store, now = served_model.store_for(uri, folder), datetime.now(UTC)
    return served_model.fetch(store, uri, folder, digest=None, accept_unjudged=True, now=now).digest


@pytest.mark.parametrize("judged", [True, False])
@pytest.mark.parametrize("scheme", ["s3", "gs", "hf"])
def test_it_is_measured_as_it_is_served_and_does_not_stay(
    scheme: str, judged: bool, run: TrainedRun, model: Path, put: Put, hub: Hub, tmp_path: Path
) -> None:
    files = {path.name: path.read_bytes() for path in model.iterdir()}
    if judged:
        made = artifact.build(model, run="live", plan_digest="sha256:" + "0" * 64, created_at="2026-01-01T00:00:00Z")
        files[artifact.MANIFEST] = artifact.dump(made).encode()
        files["README.md"] = b"A card that somebody has added."
    files |= {"onnx/config.json": b"{}", "pytorch_model.bin": b"a pickle"}
    name = f"org/{scheme}-{judged}".lower()
    if scheme == "hf":
        hub.put(name, files)
    for key, content in files.items():
        put(f"{name}/{key}", content)
    uri = f"hf://{name}" if scheme == "hf" else f"{scheme}://data/{name}"
    digest = _digest(uri, tmp_path / "served")
    result = evaluate.run(run.plan, run.workspace, attempt=1, baseline=f"{uri}@{digest}")
    assert result.evaluation is not None
    assert result.evaluation.baseline_digest == digest
    assert result.evaluation.baseline_metrics["bits_per_byte"] != result.metrics["bits_per_byte"]
    assert evaluate.BASELINE not in result.missing
    assert not run.workspace.fetched_live.exists()


def test_another_one_that_lies_there_by_now_is_not(run: TrainedRun, model: Path, put: Put, tmp_path: Path) -> None:
    for path in model.iterdir():
        put(f"moved/{path.name}", path.read_bytes())
    digest = _digest("s3://data/moved", tmp_path / "served")
    put("moved/generation_config.json", b"{}")
    result = evaluate.run(run.plan, run.workspace, attempt=2, baseline=f"s3://data/moved@{digest}")
    assert result.evaluation is not None
    assert result.evaluation.baseline_metrics == {}
    assert f"and {digest} is live" in result.missing[evaluate.BASELINE]


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("s3://nobody/model", "the endpoint's model.uri: s3://nobody/model: there is no such bucket, nobody"),
        ("s3://data/nothing", "the endpoint's model.uri: s3://data/nothing: there is nothing"),
    ],
)
def test_one_that_cannot_be_read_leaves_the_comparison_out(uri: str, reason: str, run: TrainedRun, put: Put) -> None:
    digest = "sha256:" + "a" * 64
    result = evaluate.run(run.plan, run.workspace, attempt=3, baseline=f"{uri}@{digest}")
    assert result.metrics["bits_per_byte"] > 0
    assert reason in result.missing[evaluate.BASELINE]


def test_a_store_that_does_not_answer_is_another_attempt(
    run: TrainedRun, put: Put, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slipway_fetching.object_store._MOST_RETRIES", 0)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(Unavailable, match=r"the endpoint's model\.uri: s3://data/model: the store does not answer"):
        evaluate.run(run.plan, run.workspace, attempt=4, baseline=f"s3://data/model@sha256:{'a' * 64}")


def test_the_next_attempt_goes_on_with_what_is_there_and_drops_what_is_not_live_any_more(
    model: Path, hub: Hub, tmp_path: Path
) -> None:
    hub.put("org/chat", {path.name: path.read_bytes() for path in model.iterdir()})
    digest = _digest("hf://org/chat", tmp_path / "served")
    older = tmp_path / "live/0123456789abcdef/x.incoming-1"
    older.mkdir(parents=True)
    hub.asked.clear()
    hub.failing.add("model.safetensors")
    with pytest.raises(Unavailable):
        live_model.folder_of("hf://org/chat", digest, tmp_path / "live", say=print)
    hub.failing.clear()
    folder = live_model.folder_of("hf://org/chat", digest, tmp_path / "live", say=print)
    assert hub.asked.count("config.json") == 1
    assert [path for path in (tmp_path / "live").glob("*/*") if path.is_dir()] == [folder]


def test_a_full_disk_is_left_as_it_was(model: Path, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.put("org/chat", {path.name: path.read_bytes() for path in model.iterdir()})

    def full(self: HubRepository, wanted: Mapping[str, StoredObject], folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(HubRepository, "bring", full)
    with pytest.raises(OSError, match="No space left"):
        live_model.folder_of("hf://org/chat", "sha256:" + "a" * 64, tmp_path / "live", say=print)
    assert list((tmp_path / "live").iterdir()) == []


def test_an_attempt_that_is_no_longer_the_newest_puts_nothing_there(model: Path, put: Put, tmp_path: Path) -> None:
    for path in model.iterdir():
        put(f"late/{path.name}", path.read_bytes())
    fence = Fence(tmp_path / "fence", 5)
    Fence(tmp_path / "fence", 6).raise_()
    with pytest.raises(Superseded):
        live_model.folder_of("s3://data/late", "sha256:" + "a" * 64, tmp_path / "live", say=print, check=fence.check)
    assert [path.name for path in (tmp_path / "live").glob("*/*") if ".incoming-" not in path.name] == []
