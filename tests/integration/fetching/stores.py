"""A real S3 server, whose bucket `data` this process may read, and a hub. The server speaks enough of Google's protocol
for gs://."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.fetching.hub_server import Hub, hub_server
from tests.integration.fetching.s3_server import Put, s3_server


@pytest.fixture(scope="module")
def server() -> Iterator[dict[str, str]]:
    with s3_server("data") as environment:
        yield environment


@pytest.fixture
def keys(server: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    google = {"GOOGLE_BASE_URL": server["AWS_ENDPOINT_URL"], "GOOGLE_SKIP_SIGNATURE": "true"}
    for name, value in (server | google).items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def put(keys: None) -> Put:
    """Writes an object of the bucket."""
    import obstore
    from obstore.store import from_url

    store = from_url("s3://data", client_options={"allow_http": True})
    return lambda key, content: obstore.put(store, key, content) and None


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """A hub that is empty, with a cache of its own."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub-cache"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with hub_server() as hub:
        hub.used_by(monkeypatch)
        yield hub
