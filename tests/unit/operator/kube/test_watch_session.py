"""Kopf's lists and watches: of ConfigMaps the metadata alone, and never a page of objects that is too long."""

import asyncio
import json
from typing import Any

from slipway_operator.kube.cluster import PAGE_BYTES
from slipway_operator.kube.watch_session import WatchSession

METADATA = "application/json;as=PartialObjectMetadata"


class Answer:
    status = 200

    def __init__(self, content: bytes) -> None:
        self.content_ = content
        self.content = self

    async def iter_chunked(self, size: int):
        for start in range(0, len(self.content_), size):
            yield self.content_[start : start + size]

    async def read(self) -> bytes:
        return self.content_

    def close(self) -> None:
        pass


class Server:
    """Has as many objects of 1 MB as are asked for."""

    closed = False

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []

    async def request(self, method: str, url: str, *, headers: dict[str, str], **_: Any) -> Answer:
        self.asked.append((url, headers.get("Accept", "")))
        limit = int(url.partition("limit=")[2] or 0)
        items = None if "configmaps" in url else ["x" * 1_000_000] * limit
        return Answer(json.dumps({"items": items}).encode())


def ask(url: str) -> tuple[Server, Any]:
    server = Server()

    async def scenario() -> Any:
        async with await WatchSession(server).request("get", url) as answer:  # type: ignore[arg-type]
            return await answer.json()

    return server, asyncio.run(scenario())


def test_a_page_that_is_too_long_is_asked_for_again_with_fewer_objects():
    server, found = ask("https://h/api/v1/pods?limit=100")
    assert [url.partition("limit=")[2] for url, _ in server.asked] == ["100", "12", "1"]
    assert len(json.dumps(found)) < PAGE_BYTES


def test_of_config_maps_the_metadata_alone_is_listed_and_an_empty_list_is_one():
    server, found = ask("https://h/api/v1/configmaps?limit=100")
    assert server.asked[0][1].startswith(f"{METADATA}List;")
    assert found["items"] == []


def test_of_config_maps_the_metadata_alone_is_watched():
    server = Server()
    url = "https://h/api/v1/namespaces/n/configmaps?watch=true"
    asyncio.run(WatchSession(server).request("get", url))  # type: ignore[arg-type]
    assert server.asked[0][1].startswith(f"{METADATA};")
