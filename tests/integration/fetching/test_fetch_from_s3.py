"""`slipway-fetch` as the init container runs it, from a real S3 server, which speaks enough of Google's protocol."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.fetching.s3_server import s3_server
from tests.integration.fetching.slow_store import slow_store

from slipway_core.protocol import artifact
from slipway_core.protocol.artifact import Manifest
from slipway_fetching.object_store import BLOCK, PARALLEL

WEIGHTS = bytes(range(256)) * 4 * 20_000
"""20 MB: more than one block of a download."""


@pytest.fixture(scope="module")
def s3() -> Iterator[dict[str, str]]:
    with s3_server("models") as environment:
        yield environment


def put(s3: dict[str, str], key: str, data: bytes) -> None:
    import obstore
    from obstore.store import S3Store

    store = S3Store(
        "models",
        endpoint=s3["AWS_ENDPOINT_URL"],
        access_key_id="key",
        secret_access_key="secret",
        region="us-east-1",
        client_options={"allow_http": True},
    )
    obstore.put(store, key, data)


@pytest.fixture(scope="module")
def stored(s3: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """An artifact at s3://models/runs/chat/artifact, beside another prefix that starts with the same letters."""
    folder = tmp_path_factory.mktemp("artifact")
    (folder / "model.safetensors").write_bytes(WEIGHTS)
    (folder / "config.json").write_text("{}", encoding="utf-8")
    manifest = artifact.build(folder, run="chat", plan_digest="sha256:" + "1" * 64, created_at="2026-01-01T00:00:00Z")
    (folder / "manifest.json").write_text(artifact.dump(manifest), encoding="utf-8")
    for path in folder.iterdir():
        put(s3, f"runs/chat/artifact/{path.name}", path.read_bytes())
    put(s3, "runs/chat/artifact2/config.json", b"other")
    return manifest


def command(uri: str, to: Path, *options: str) -> list[str]:
    return [str(Path(sys.executable).with_name("slipway-fetch")), "--uri", uri, "--to", str(to), *options]


def slipway_fetch(s3: dict[str, str], uri: str, to: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(uri, to, *options), env=os.environ | s3, capture_output=True, text=True, timeout=60)


def test_an_artifact_is_fetched_and_its_digest_printed(s3: dict[str, str], stored: Manifest, tmp_path: Path) -> None:
    done = slipway_fetch(s3, "s3://models/runs/chat/artifact", tmp_path / "model", "--digest", stored.digest)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"digest": stored.digest, "files": 2, "bytes": len(WEIGHTS) + 2}
    artifact.verify(tmp_path / "model", stored.digest)


def test_A_a_digest_that_it_does_not_have_is_wrong_input(s3: dict[str, str], stored: Manifest, tmp_path: Path) -> None:
    wrong = "sha256:" + "0" * 64
    done = slipway_fetch(s3, "s3://models/runs/chat/artifact/", tmp_path / "model", "--digest", wrong)
    assert (done.returncode, done.stdout) == (2, "")
    assert wrong in done.stderr
    assert not (tmp_path / "model/manifest.json").exists()


def test_A_a_bare_folder_of_weights_is_refused(s3: dict[str, str], tmp_path: Path) -> None:
    put(s3, "bare/model.safetensors", b"weights")
    done = slipway_fetch(s3, "s3://models/bare", tmp_path / "model")
    assert done.returncode == 2
    assert "acceptUnjudged" in done.stderr
    assert slipway_fetch(s3, "s3://models/bare", tmp_path / "model", "--accept-unjudged").returncode == 0


@pytest.mark.parametrize("uri", ["s3://models/nothing/here", "s3://nobody/chat"])
def test_what_is_not_there_is_named_with_the_keys_that_say_where_to_look(
    uri: str, s3: dict[str, str], tmp_path: Path
) -> None:
    done = slipway_fetch(s3, uri, tmp_path / "model")
    assert done.returncode == 1
    assert uri in done.stderr
    assert "Traceback" not in done.stderr


def test_a_store_of_google_needs_no_certificate_where_its_address_says_so(
    s3: dict[str, str], stored: Manifest, tmp_path: Path
) -> None:
    google = {"GOOGLE_BASE_URL": s3["AWS_ENDPOINT_URL"], "GOOGLE_SKIP_SIGNATURE": "true"}
    done = slipway_fetch(google, "gs://models/runs/chat/artifact", tmp_path / "model", "--digest", stored.digest)
    assert done.returncode == 0, done.stderr
    artifact.verify(tmp_path / "model", stored.digest)


def test_a_store_that_is_busy_is_asked_again(s3: dict[str, str], stored: Manifest, tmp_path: Path) -> None:
    with slow_store(s3["AWS_ENDPOINT_URL"]) as slow:
        slow.busy = 3
        here = s3 | {"AWS_ENDPOINT_URL": slow.address}
        done = slipway_fetch(here, "s3://models/runs/chat/artifact", tmp_path / "model", "--digest", stored.digest)
        assert done.returncode == 0, done.stderr
        assert slow.busy == 0
    artifact.verify(tmp_path / "model", stored.digest)


@pytest.mark.parametrize("judged", [True, False])
def test_a_fetch_that_was_killed_goes_on_where_it_was(judged: bool, s3: dict[str, str], tmp_path: Path) -> None:
    folder, prefix = tmp_path / "stored", f"killed/{judged}"
    folder.mkdir()
    (folder / "config.json").write_text("{}", encoding="utf-8")
    size = (PARALLEL + 1) * BLOCK
    with (folder / "model.safetensors").open("wb") as file:
        file.truncate(size)
    if judged:
        made = artifact.build(folder, run="chat", plan_digest="sha256:" + "1" * 64, created_at="2026-01-01T00:00:00Z")
        (folder / "manifest.json").write_text(artifact.dump(made), encoding="utf-8")
    for path in folder.iterdir():
        put(s3, f"{prefix}/{path.name}", path.read_bytes())
    whole, last = f"/models/{prefix}/model.safetensors", PARALLEL * BLOCK
    uri, options = f"s3://models/{prefix}", () if judged else ("--accept-unjudged",)
    with slow_store(s3["AWS_ENDPOINT_URL"]) as slow:
        here = s3 | {"AWS_ENDPOINT_URL": slow.address}
        slow.kept_back = (whole, last)
        with subprocess.Popen(command(uri, tmp_path / "model", *options), env=os.environ | here) as process:
            assert slow.keeping.wait(60)
            process.kill()
        assert not (tmp_path / "model/model.safetensors").exists()
        slow.kept_back = None
        slow.asked.clear()
        done = slipway_fetch(here, uri, tmp_path / "model", *options)
        assert done.returncode == 0, done.stderr
        assert slow.asked == [(whole, last)]
    assert json.loads(done.stdout)["bytes"] == size + 2
    artifact.verify(tmp_path / "model")
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == [
        "config.json",
        "manifest.json",
        "model.safetensors",
    ]
