"""hf:// of a model, from a server that speaks the hub's protocol, with the hub's own library."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from tests.integration.fetching.hub_server import AWAY, BASE, NOT_FETCHED, Hub
from tests.unit.fetching.requesters import OF_THE_MODEL

from slipway_fetching import model_cache
from slipway_fetching.errors import Misconfigured, Unavailable


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def fetch(repository: str, models: Path) -> Path:
    return model_cache.fetch(f"hf://{repository}", OF_THE_MODEL, models)


def test_the_revision_of_a_uri_is_what_is_fetched(hub: Hub, tmp_path: Path) -> None:
    old = hub.put("org/base", BASE)
    hub.put("org/base", {"config.json": b"newer"})
    assert (fetch(f"org/base@{old}", tmp_path) / "config.json").read_bytes() == b"{}"
    assert model_cache.commit(f"hf://org/base@{old}", tmp_path) == old
    with pytest.raises(Misconfigured, match=r"hf://org/base@v9: cannot be fetched: 404"):
        fetch("org/base@v9", tmp_path)


def test_a_branch_that_moves_while_it_is_fetched_gives_no_mixture(hub: Hub, tmp_path: Path) -> None:
    hub.put("org/base", BASE)
    hub.before_content = lambda: hub.put("org/base", dict.fromkeys(BASE, b"newer")) and None
    folder = fetch("org/base", tmp_path)
    assert {name: (folder / name).read_bytes() for name in names(folder)} == {
        name: BASE[name] for name in ("config.json", "model.safetensors")
    }


@pytest.mark.parametrize("in_a_pod", [True, False])
def test_a_model_is_fetched_once_and_takes_its_room_once(
    in_a_pod: bool, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.put("org/base", BASE | NOT_FETCHED)
    if in_a_pod:
        monkeypatch.setenv("SLIPWAY_CLAIMS", "/claims")
    folders = [fetch("org/base", tmp_path / run) for run in ("one", "two")]
    assert [names(folder) for folder in folders] == [["config.json", "model.safetensors"]] * 2
    links = [(folder / "model.safetensors").stat().st_nlink for folder in folders]
    # A pod's cache goes with it, so there is none that its workspace would share.
    assert links == ([1, 1] if in_a_pod else [3, 3])
    assert (tmp_path / "hub-cache").exists() is not in_a_pod
    assert hub.asked.count("model.safetensors") == (2 if in_a_pod else 1)
    for folder in folders:
        assert [path for path in folder.parent.iterdir() if path.is_dir()] == [folder]
        assert not (folder / "model.safetensors").is_symlink()


def test_where_there_are_no_links_it_is_copied(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def other_disk(*_: object) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    hub.put("org/base", BASE)
    monkeypatch.setattr(os, "link", other_disk)
    folder = fetch("org/base", tmp_path / "models")
    assert (folder / "model.safetensors").read_bytes() == BASE["model.safetensors"]
    assert (folder / "model.safetensors").stat().st_nlink == 1


def test_without_a_hub_a_model_of_its_cache_is_found(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = hub.put("org/base", BASE | NOT_FETCHED)
    fetch("org/base", tmp_path / "before")
    hub.address = AWAY
    hub.used_by(monkeypatch)
    said = list[str]()
    folder = model_cache.fetch("hf://org/base", OF_THE_MODEL, tmp_path / "after", say=said.append)
    assert names(folder) == ["config.json", "model.safetensors"]
    assert model_cache.commit("hf://org/base", tmp_path / "after") == commit
    assert said == [f"no hub answers: hf://org/base is as it was when it was fetched last, at {commit}"]
    with pytest.raises(Unavailable, match="the hub does not answer"):
        fetch("org/other", tmp_path / "after")


@pytest.mark.parametrize("missing", ["model.safetensors", "model-00002-of-00002.safetensors", "tokenizer.json"])
def test_without_a_hub_a_part_of_a_model_is_not_taken_for_it(
    missing: str, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.put("org/base", {**BASE, "model-00001-of-00002.safetensors": b"a", "tokenizer.json": b"{}", missing: b"x"})
    hub.failing.add(missing)
    with pytest.raises(Unavailable):
        fetch("org/base", tmp_path)
    address, hub.address = hub.address, AWAY
    hub.used_by(monkeypatch)
    with pytest.raises(Unavailable, match="the hub does not answer"):
        fetch("org/base", tmp_path)
    hub.failing.clear()
    hub.address = address
    hub.used_by(monkeypatch)
    assert missing in names(fetch("org/base", tmp_path))


def test_a_model_that_was_fetched_in_part_goes_on(hub: Hub, tmp_path: Path) -> None:
    hub.put("org/chat", BASE)
    hub.failing.add("model.safetensors")
    with pytest.raises(Unavailable):
        fetch("org/chat", tmp_path / "models")
    hub.failing.clear()
    folder = fetch("org/chat", tmp_path / "models")
    assert names(folder) == ["config.json", "model.safetensors"]
    assert (folder / "model.safetensors").read_bytes() == BASE["model.safetensors"]
    assert hub.asked.count("config.json") == 1
    assert [path for path in (tmp_path / "models").iterdir() if path.is_dir()] == [folder]
