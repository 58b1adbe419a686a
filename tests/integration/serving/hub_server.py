"""A server that speaks as much of the Hugging Face hub's protocol as its library asks for when it reads."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest


@dataclass
class Hub:
    """Its repositories, by `org/name`, of a data set `datasets/org/name`: the content of each file by its path."""

    address: str = ""
    repositories: dict[str, dict[str, bytes]] = field(default_factory=dict)
    private: set[str] = field(default_factory=set)
    token: str = "hf_secret"
    asked: list[str] = field(default_factory=list)
    """Every file that was read."""
    failing: set[str] = field(default_factory=set)
    """Files whose content it does not have just now."""

    def put(self, repository: str, files: dict[str, bytes]) -> None:
        self.repositories.setdefault(repository, {}).update(files)

    def commit(self, repository: str) -> str:
        files = sorted(self.repositories[repository].items())
        return hashlib.sha1(repr(files).encode()).hexdigest()

    def used_by(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Has the hub's library of this process ask it. Its address of the environment is read once, at the import."""
        from huggingface_hub import constants

        monkeypatch.setattr(constants, "ENDPOINT", self.address)
        template = f"{self.address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)


@contextmanager
def hub_server() -> Iterator[Hub]:
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._answer()

        def do_GET(self) -> None:
            self._answer()

        def _answer(self) -> None:
            path = self.path.partition("?")[0]
            if found := re.fullmatch(r"/api/(?:models/)?((?:datasets/)?[^/]+/[^/]+)(?:/(revision|tree)/.+)?", path):
                if self._may_read(repository := found[1]):
                    told = _tree(hub, repository) if found[2] == "tree" else _info(hub, repository)
                    self._say(200, json.dumps(told).encode(), {"Content-Type": "application/json"})
            elif found := re.fullmatch(r"/((?:datasets/)?[^/]+/[^/]+)/resolve/[^/]+/(.+)", path):
                if self._may_read(repository := found[1]):
                    self._file(repository, found[2])
            else:
                self._say(404, b"", {})

        def _may_read(self, repository: str) -> bool:
            authorized = self.headers.get("Authorization") == f"Bearer {hub.token}"
            if repository in hub.repositories and (authorized or repository not in hub.private):
                return True
            self._say(401, b"", {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"})
            return False

        def _file(self, repository: str, name: str) -> None:
            content = hub.repositories[repository].get(name)
            if content is None:
                return self._say(404, b"", {"X-Error-Code": "EntryNotFound"})
            if self.command == "GET":
                hub.asked.append(name)
                if name in hub.failing:
                    return self._say(503, b"", {})
            about = {"X-Repo-Commit": hub.commit(repository), "ETag": f'"{hashlib.sha1(content).hexdigest()}"'}
            self._say(200, content, about)

        def _say(self, status: int, body: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        hub.address = f"http://127.0.0.1:{server.server_port}"
        Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield hub
        finally:
            server.shutdown()


def _info(hub: Hub, repository: str) -> dict[str, object]:
    files = hub.repositories[repository]
    siblings = [{"rfilename": name, "size": len(content), "blobId": "x"} for name, content in files.items()]
    return {
        "id": repository.removeprefix("datasets/"),
        "modelId": repository,
        "sha": hub.commit(repository),
        "siblings": siblings,
    }


def _tree(hub: Hub, repository: str) -> list[dict[str, object]]:
    files = hub.repositories[repository]
    return [{"type": "file", "path": name, "size": len(content), "oid": "x"} for name, content in files.items()]
