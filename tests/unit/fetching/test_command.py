"""What `slipway-fetch` says of a store that cannot be read, and with which exit code."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from slipway_fetching import object_store
from slipway_fetching.command import app


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")


def slipway_fetch(to: Path) -> Result:
    return CliRunner().invoke(app, ["--uri", "s3://models/chat", "--to", str(to)])


def test_a_store_that_is_silent_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(object_store._CLIENT, "timeout", "1s")
    monkeypatch.setattr(object_store, "_MOST_RETRIES", 1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        started = time.monotonic()
        done = slipway_fetch(tmp_path / "model")
    assert time.monotonic() - started < 20
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith("slipway-fetch: s3://models/chat: the store does not answer: ")
    assert done.stderr.count("\n") == 1


def test_an_address_that_is_none_is_named_with_its_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "store:9000")
    done = slipway_fetch(tmp_path / "model")
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr == (
        "slipway-fetch: s3://models/chat: AWS_ENDPOINT_URL is 'store:9000', which is no http:// or https:// address\n"
    )
    assert not (tmp_path / "model").exists()
