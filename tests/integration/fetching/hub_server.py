"""A server that speaks as much of the Hugging Face hub's protocol as its library asks for when it reads."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import unquote

import pytest
from tests.http_server import QuietHandler, served

Files = dict[str, bytes]

BASE: Files = {"config.json": b"{}", "model.safetensors": b"weights" * 1000}
NOT_FETCHED: Files = {"pytorch_model.bin": b"a pickle", "onnx/config.json": b"{}", "modeling.py": b"import os"}
LARGE = (".safetensors", ".parquet")
"""Files of which the hub lists the digest of the content."""
AWAY = "http://127.0.0.1:9"
"""Where nobody answers."""


@dataclass
class Hub:
    address: str = ""
    repositories: dict[str, dict[str, Files]] = field(default_factory=dict)
    """The commits of each, oldest first, by `org/name`, of a data set `datasets/org/name`."""
    private: set[str] = field(default_factory=set)
    gated: set[str] = field(default_factory=set)
    """Those that show themselves to nobody who has not asked their owner, whatever the token."""
    token: str = "hf_secret"
    asked: list[str] = field(default_factory=list)
    """Every file whose content was read."""
    failing: set[str] = field(default_factory=set)
    """Files whose content it does not have just now."""
    before_content: Callable[[], None] | None = None
    """Called once, before the first content."""

    def put(self, repository: str, files: Files) -> str:
        """Adds files to what there is. Returns the commit."""
        commits = self.repositories.setdefault(repository, {})
        content = {**next(reversed(commits.values()), {}), **files}
        commit = hashlib.sha1(repr(sorted(content.items())).encode()).hexdigest()
        commits[commit] = content
        return commit

    def commit(self, repository: str, revision: str = "main") -> str | None:
        commits = self.repositories[repository]
        return [*commits][-1] if revision == "main" else revision if revision in commits else None

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

    class Handler(QuietHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._answer()

        def do_GET(self) -> None:
            self._answer()

        def _answer(self) -> None:
            path = unquote(self.path.partition("?")[0])
            name = r"((?:datasets/)?[^/]+/[^/]+)"
            if found := re.fullmatch(rf"/api/(?:models/)?{name}(?:/(revision|tree)/(.+))?", path):
                if commit := self._commit(found[1], found[3] or "main"):
                    told = (_tree if found[2] == "tree" else _info)(hub, found[1], commit)
                    self._say(200, json.dumps(told).encode(), {"Content-Type": "application/json"})
            elif found := re.fullmatch(rf"/{name}/resolve/([^/]+)/(.+)", path):
                if commit := self._commit(found[1], found[2]):
                    self._file(found[1], commit, found[3])
            else:
                self._say(404, b"", {})

        def _commit(self, repository: str, revision: str) -> str | None:
            authorized = self.headers.get("Authorization") == f"Bearer {hub.token}"
            if repository not in hub.repositories or not (authorized or repository not in hub.private):
                self._say(401, b"", {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"})
                return None
            if repository in hub.gated:
                words = f"Access to dataset {repository} is restricted and you are not in the authorized list"
                self._say(403, b"", {"X-Error-Code": "GatedRepo", "X-Error-Message": words})
                return None
            commit = hub.commit(repository, revision)
            if commit is None:
                self._say(404, b"", {"X-Error-Code": "RevisionNotFound", "X-Error-Message": "Revision not found"})
            return commit

        def _file(self, repository: str, commit: str, name: str) -> None:
            content = hub.repositories[repository][commit].get(name)
            if content is None:
                return self._say(404, b"", {"X-Error-Code": "EntryNotFound"})
            if self.command == "GET":
                if hub.before_content is not None:
                    called, hub.before_content = hub.before_content, None
                    called()
                hub.asked.append(name)
                if name in hub.failing:
                    return self._say(503, b"", {})
            etag = hashlib.sha1(content).hexdigest()
            self._say(200, content, {"X-Repo-Commit": commit, "ETag": f'"{etag}"'})

        def _say(self, status: int, body: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

    with served(Handler) as hub.address:
        yield hub


def _info(hub: Hub, repository: str, commit: str) -> dict[str, object]:
    files = hub.repositories[repository][commit]
    siblings = [{"rfilename": name, "size": len(content)} for name, content in files.items()]
    return {"id": repository.removeprefix("datasets/"), "sha": commit, "siblings": siblings}


def _tree(hub: Hub, repository: str, commit: str) -> list[dict[str, object]]:
    files = hub.repositories[repository][commit]
    return [
        {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
        | ({"lfs": _pointer(content)} if name.endswith(LARGE) else {})
        for name, content in files.items()
    ]


def _pointer(content: bytes) -> dict[str, object]:
    return {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 130}
