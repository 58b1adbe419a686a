"""`slipway-fetch` as the init container runs it, from a server that speaks the hub's protocol."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.fetching.hub_server import Hub, hub_server

from slipway_core.protocol import artifact

FILES = {"config.json": b"{}", "model.safetensors": b"weights" * 1000, "pytorch_model.bin": b"a pickle"}


@pytest.fixture
def hub() -> Iterator[Hub]:
    with hub_server() as hub:
        yield hub


def slipway_fetch(address: str, to: Path, *options: str, token: str = "") -> subprocess.CompletedProcess[str]:
    command = [Path(sys.executable).with_name("slipway-fetch"), "--uri", "hf://org/chat", "--to", to, *options]
    own = {"HF_ENDPOINT": address, "HF_HOME": str(to.parent / "home"), "HF_HUB_OFFLINE": "0"} | (
        {"HF_TOKEN": token} if token else {}
    )
    return subprocess.run(command, env=os.environ | own, capture_output=True, text=True, timeout=60)


def test_a_bare_repository_gives_what_a_model_is_loaded_from_and_its_digest_pins_it(hub: Hub, tmp_path: Path) -> None:
    hub.put("org/chat", FILES)
    done = slipway_fetch(hub.address, tmp_path / "model", "--accept-unjudged")
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == [
        "config.json",
        artifact.MANIFEST,
        "model.safetensors",
    ]
    digest = json.loads(done.stdout)["digest"]
    assert slipway_fetch(hub.address, tmp_path / "again", "--digest", digest).returncode == 0
    hub.put("org/chat", {"config.json": b"{ }"})
    moved = slipway_fetch(hub.address, tmp_path / "moved", "--digest", digest)
    assert moved.returncode == 2
    assert f"{digest} was asked for" in moved.stderr


def test_a_private_repository_is_read_with_the_token(hub: Hub, tmp_path: Path) -> None:
    hub.put("org/chat", FILES)
    hub.private.add("org/chat")
    refused = slipway_fetch(hub.address, tmp_path / "model", "--accept-unjudged")
    assert refused.returncode == 1
    assert "hf://org/chat: cannot be fetched: 401" in refused.stderr
    assert "needs HF_TOKEN" in refused.stderr
    assert "Secret with the key `token` in model.credentials of the endpoint" in refused.stderr
    done = slipway_fetch(hub.address, tmp_path / "model", "--accept-unjudged", token=hub.token)
    assert done.returncode == 0, done.stderr


def test_a_hub_that_is_away_is_said_in_a_line(tmp_path: Path) -> None:
    done = slipway_fetch("http://127.0.0.1:9", tmp_path / "model", "--accept-unjudged")
    assert done.returncode == 1
    assert done.stderr.startswith("slipway-fetch: hf://org/chat: the hub does not answer: ")
    assert "Traceback" not in done.stderr


def test_what_came_before_the_hub_went_away_is_not_fetched_again(hub: Hub, tmp_path: Path) -> None:
    hub.put("org/chat", FILES)
    hub.failing.add("model.safetensors")
    broken = slipway_fetch(hub.address, tmp_path / "model", "--accept-unjudged")
    assert broken.returncode == 1
    assert "slipway-fetch: hf://org/chat: the hub does not answer: " in broken.stderr
    assert not (tmp_path / "model/config.json").exists()
    hub.failing.clear()
    done = slipway_fetch(hub.address, tmp_path / "model", "--accept-unjudged")
    assert done.returncode == 0, done.stderr
    assert hub.asked.count("config.json") == 1
    names = {path.relative_to(tmp_path / "model").as_posix() for path in (tmp_path / "model").rglob("*")}
    assert names == {"config.json", artifact.MANIFEST, "model.safetensors"}
    assert (tmp_path / "model/model.safetensors").stat().st_nlink == 1


def test_a_branch_that_moves_while_it_is_fetched_gives_no_mixture(hub: Hub, tmp_path: Path) -> None:
    hub.put("org/chat", FILES)
    hub.before_content = lambda: hub.put("org/chat", dict.fromkeys(FILES, b"newer")) and None
    done = slipway_fetch(hub.address, tmp_path / "model", "--accept-unjudged")
    assert done.returncode == 0, done.stderr
    for name in ("config.json", "model.safetensors"):
        assert (tmp_path / "model" / name).read_bytes() == FILES[name]


def test_a_repository_of_pickles_alone_is_refused_with_the_conversion_to_run(hub: Hub, tmp_path: Path) -> None:
    hub.put("org/chat", {"config.json": b"{}", "pytorch_model.bin": b"a pickle"})
    refused = slipway_fetch(hub.address, tmp_path / "model", "--accept-unjudged")
    assert refused.returncode != 0
    assert "holds no *.safetensors but pytorch_model.bin" in refused.stderr
    assert "AutoModelForCausalLM" in refused.stderr
    assert "org/chat" in refused.stderr.partition("python -c ")[2]
    assert "Traceback" not in refused.stderr
