"""What a server makes of the record that it was given, before it asks its engine anything."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from tests.unit.core.protocol.test_parity import MODEL, a_record

from slipway_core.protocol import parity
from slipway_core.protocol.artifact import FileEntry, Manifest
from slipway_core.protocol.parity import Outcome, Record
from slipway_serving.engine import parity_check
from slipway_serving.settings import Settings, SettingsError

MANIFEST = Manifest(
    digest=MODEL,
    files={"tokenizer.json": FileEntry(size=1, sha256="1" * 64)},
    run="tiny",
    plan_digest="sha256:" + "0" * 64,
    created_at="2026-01-01T00:00:00Z",
)


def reason(found: Record | Outcome) -> str:
    assert isinstance(found, Outcome)
    assert found.passed is None
    return found.reason or ""


def test_a_record_that_is_not_there_or_is_another_one_is_said_plainly(tmp_path: Path) -> None:
    path = tmp_path / "parity.json"
    assert reason(parity_check.read(path, None, MANIFEST)) == (
        f"the record {path} cannot be read: No such file or directory"
    )
    assert reason(parity_check.read(tmp_path, None, MANIFEST)).startswith("there is a folder in its place"), (
        "a kubelet makes one where the file is not there"
    )
    content = a_record().dump().encode()
    path.write_bytes(content[:-9])
    assert "it was cut or changed" in reason(parity_check.read(path, parity.digest_of(content), MANIFEST))
    path.write_bytes(content.replace(b'"version":1', b'"version":7'))
    assert "it is of version 7" in reason(parity_check.read(path, None, MANIFEST))
    path.write_bytes(content)
    assert parity_check.read(path, parity.digest_of(content), MANIFEST) == a_record()
    other = MANIFEST.model_copy(update={"digest": "sha256:" + "9" * 64})
    assert "it is of the model" in reason(parity_check.read(path, None, other))


def at_the_start(path: Path | None) -> Outcome:
    settings = Settings(model=Path("/model"), served_name="chat", parity=path)
    return asyncio.run(parity_check.at_the_start(settings, MANIFEST, None, None))


def test_a_server_without_a_record_starts_and_does_not_know(tmp_path: Path) -> None:
    assert at_the_start(None) == Outcome(None, reason="no record of the evaluation was given")
    assert at_the_start(tmp_path / "parity.json").passed is None


def test_A_a_server_that_is_another_model_does_not_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def another(*_: Any) -> Outcome:
        return Outcome(False, reason="chat-question, token 1: the id is 3, and 0 in the evaluation")

    (tmp_path / "parity.json").write_text(a_record().dump())
    monkeypatch.setattr(parity_check, "check", another)
    with pytest.raises(
        SettingsError, match="ParityFailed: this is not the model that was judged: chat-question, token 1"
    ):
        at_the_start(tmp_path / "parity.json")
