"""A server that speaks as much of the Hugging Face hub's protocol as its library asks for when it reads and pushes."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable, Collection, Iterator
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
    writers: set[str] = field(default_factory=lambda: {"hf_secret"})
    """Tokens that may make repositories and write into them."""
    messages: list[str] = field(default_factory=list)
    """Title and description of every commit that was pushed."""
    uploads: dict[str, bytes] = field(default_factory=dict)
    """Large files, by the SHA-256 of their content."""
    busy: int = 0
    """How many of the next requests that push it answers with 503."""

    def put(self, repository: str, files: Files, without: Collection[str] = ()) -> str:
        """Adds files to what there is, and takes some away. Returns the commit."""
        commits = self.repositories.setdefault(repository, {})
        content = {**next(reversed(commits.values()), {}), **files}
        content = {name: held for name, held in content.items() if name not in without}
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

        def do_POST(self) -> None:
            path = unquote(self.path.partition("?")[0])
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            if hub.busy:
                hub.busy -= 1
                return self._say(503, b"", {})
            if self._bearer() not in hub.writers:
                words = "You don't have the rights to write there"
                return self._say(403, json.dumps({"error": words}).encode(), {"X-Error-Message": words})
            if path == "/api/repos/create":
                return self._create(json.loads(body))
            if path == "/api/validate-yaml":
                return self._json({"errors": [], "warnings": []})
            if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/(preupload|commit)/main", path):
                answer = self._preupload if found[2] == "preupload" else self._commit_pushed
                return answer(found[1], body)
            if re.fullmatch(r"/([^/]+/[^/]+)\.git/info/lfs/objects/batch", path):
                return self._batch(json.loads(body))
            return self._say(404, b"", {})

        def do_PUT(self) -> None:
            content = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            digest = hashlib.sha256(content).hexdigest()
            if self.path != f"/uploads/{digest}":
                return self._say(400, b"", {})
            hub.uploads[digest] = content
            self._say(200, b"", {"ETag": digest})

        def _create(self, wanted: dict) -> None:
            name = f"{wanted['organization']}/{wanted['name']}" if wanted.get("organization") else wanted["name"]
            if name in hub.repositories:
                return self._json({"url": f"{hub.address}/{name}"}, 409)
            hub.put(name, {".gitattributes": b"*.safetensors filter=lfs\n"})
            private = wanted.get("private") or wanted.get("visibility") == "private"
            hub.private |= {name} if private else set()
            self._json({"url": f"{hub.address}/{name}"})

        def _preupload(self, repository: str, body: bytes) -> None:
            files = hub.repositories[repository][hub.commit(repository) or ""]

            def told(path: str) -> dict[str, object]:
                large, there = path.endswith(LARGE), files.get(path)
                oid = None if there is None else hashlib.sha256(there).hexdigest() if large else _blob(there)
                mode = "lfs" if large else "regular"
                return {"path": path, "uploadMode": mode, "shouldIgnore": False, **({"oid": oid} if oid else {})}

            self._json({"files": [told(one["path"]) for one in json.loads(body)["files"]]})

        def _batch(self, wanted: dict) -> None:
            def upload(oid: str) -> dict[str, object]:
                return {} if oid in hub.uploads else {"actions": {"upload": {"href": f"{hub.address}/uploads/{oid}"}}}

            objects = [{"oid": one["oid"], "size": one["size"], **upload(one["oid"])} for one in wanted["objects"]]
            self._json({"transfer": "basic", "objects": objects})

        def _commit_pushed(self, repository: str, body: bytes) -> None:
            files, gone = {}, set()
            for line in map(json.loads, body.splitlines()):
                match line["key"], line["value"]:
                    case "header", header:
                        hub.messages.append(f"{header['summary']}\n{header['description']}")
                    case "file", one:
                        files[one["path"]] = base64.b64decode(one["content"])
                    case "lfsFile", one:
                        files[one["path"]] = hub.uploads[one["oid"]]
                    case "deletedFile", one:
                        gone.add(one["path"])
            commit = hub.put(repository, files, without=gone)
            url = f"{hub.address}/{repository}/commit/{commit}"
            self._json({"success": True, "commitUrl": url, "commitOid": commit, "hookOutput": ""})

        def _json(self, document: dict, status: int = 200) -> None:
            self._say(status, json.dumps(document).encode(), {"Content-Type": "application/json"})

        def _bearer(self) -> str:
            return self.headers.get("Authorization", "").removeprefix("Bearer ")

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
            authorized = self._bearer() == hub.token
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
    private = repository in hub.private
    return {"id": repository.removeprefix("datasets/"), "sha": commit, "siblings": siblings, "private": private}


def _tree(hub: Hub, repository: str, commit: str) -> list[dict[str, object]]:
    files = hub.repositories[repository][commit]
    return [
        {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
        | ({"lfs": _pointer(content)} if name.endswith(LARGE) else {})
        for name, content in files.items()
    ]


def _blob(content: bytes) -> str:
    """The name that git has for it."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _pointer(content: bytes) -> dict[str, object]:
    return {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 130}
