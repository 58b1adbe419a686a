"""`slipway verify` of a model of the hub: fetched by the process that servers fetch with, from a server of the test."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.integration.fetching.hub_server import Hub, hub_server
from tests.unit.core.statements import KEY, judgement

from slipway_core.protocol import artifact, trust
from slipway_core.protocol.envelope import seal
from slipway_core.protocol.statement import Statement
from slipway_core.protocol.trust import TrustedKey


@pytest.fixture
def hub():
    with hub_server() as hub:
        yield hub


def _published(hub: Hub, folder: Path) -> str:
    """Puts a model with its manifest into the hub. Returns its digest."""
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"weights" * 1000)
    (folder / "config.json").write_text("{}")
    made = artifact.build(folder, run="poems", plan_digest="sha256:" + "12" * 32, created_at="now")
    (folder / artifact.MANIFEST).write_text(artifact.dump(made))
    hub.put("org/name", {path.name: path.read_bytes() for path in folder.iterdir()})
    return made.digest


def _verify(hub: Hub, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    own = {"HF_ENDPOINT": hub.address, "HF_HOME": str(folder / "home"), "HF_HUB_OFFLINE": "0", "TMPDIR": str(folder)}
    command = [sys.executable, "-P", "-m", "slipway", "verify", "hf://org/name", *arguments]
    return subprocess.run(command, cwd=folder, env={**os.environ, **own}, capture_output=True, text=True, timeout=120)


def test_a_model_of_the_hub_is_held_against_its_statement(hub: Hub, tmp_path: Path) -> None:
    digest = _published(hub, tmp_path / "model")
    (tmp_path / "s.json").write_text(seal(Statement.about(digest, judgement()), KEY))
    (tmp_path / "keys.json").write_text(trust.dump([TrustedKey.of(KEY.public)]))
    named = ("--statement", "s.json", "--key", "keys.json")
    good = _verify(hub, tmp_path, *named)
    assert (good.returncode, good.stdout.split("\n")[-2]) == (0, "holds"), good.stdout + good.stderr
    assert digest in good.stdout

    hub.put("org/name", {"config.json": b"{ }"})
    changed = _verify(hub, tmp_path, *named)
    assert changed.returncode == 2
    assert "config.json is not what the manifest says" in changed.stderr
    assert not list(tmp_path.glob("slipway-verify-*")), "what was fetched is gone"
