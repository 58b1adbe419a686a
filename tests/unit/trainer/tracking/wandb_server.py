"""A server that speaks as much of W&B's protocol as its library asks for when it tells a run."""

from __future__ import annotations

import base64
import gzip
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.http_server import QuietHandler, served


@dataclass
class WandbServer:
    address: str = ""
    key: str = ""
    history: list[dict[str, Any]] = field(default_factory=list)
    """Rows of the one run, as they came."""
    upserts: list[dict[str, Any]] = field(default_factory=list)
    """What was said of the run: name, configuration, state."""
    summary: dict[str, Any] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    others: list[str] = field(default_factory=list)
    """Paths of requests that are none of these."""
    exit_codes: list[int] = field(default_factory=list)


@contextmanager
def wandb_server(key: str) -> Iterator[WandbServer]:
    server = WandbServer(key=key)

    class Handler(QuietHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.headers.get("Authorization") != f"Basic {base64.b64encode(f'api:{server.key}'.encode()).decode()}":
                return self._say({"errors": [{"message": "permission denied"}]}, 401)
            body = gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body
            if self.path == "/graphql":
                request = json.loads(body)
                name = re.search(r"(?:query|mutation) (\w+)", request["query"])
                return self._say({"data": self._graphql(name[1] if name else "", request["variables"])})
            if self.path.endswith("/file_stream"):
                return self._say(self._stream(json.loads(body)))
            server.others.append(self.path)
            return self._say({})

        def do_PUT(self) -> None:
            server.files[self.path.rpartition("/")[2]] = self.rfile.read(int(self.headers["Content-Length"]))
            self._say({})

        def _graphql(self, name: str, told: dict[str, Any]) -> dict[str, Any]:
            match name:
                case "RunResumeStatus" if not server.history:
                    return {"model": None}
                case "RunResumeStatus":
                    return {"model": {"id": "p", "name": told["project"], "entity": _ENTITY, "bucket": self._bucket()}}
                case "UpsertBucket":
                    server.upserts.append(told)
                    project = {"id": "p", "name": told["project"], "entity": _ENTITY}
                    bucket = {**self._bucket(), "project": project, "sweepName": None, "description": None}
                    return {"upsertBucket": {"bucket": bucket, "inserted": len(server.upserts) == 1}}
                case "CreateRunFiles":
                    files = [{"name": one, "uploadUrl": f"{server.address}/upload/{one}"} for one in told["files"]]
                    return {"createRunFiles": {"runID": "r", "uploadHeaders": [], "files": files}}
                case _:
                    server.others.append(name)
                    return {}

        def _bucket(self) -> dict[str, Any]:
            name = server.upserts[0]["name"] if server.upserts else ""
            return {
                "id": "r", "name": name, "displayName": "demo", "config": "{}", "tags": [], "notes": None,
                "summaryMetrics": json.dumps(server.summary), "logLineCount": 0, "eventsLineCount": 0,
                "historyLineCount": len(server.history), "eventsTail": "[]",
                "wandbConfig": '{"t": {}}',
                "historyTail": json.dumps([json.dumps(row) for row in server.history[-1:]]),
            }  # fmt: skip

        def _stream(self, told: dict[str, Any]) -> dict[str, Any]:
            files = told.get("files") or {}
            for line in files.get("wandb-history.jsonl", {}).get("content", []):
                server.history.append(json.loads(line))
            for line in files.get("wandb-summary.json", {}).get("content", []):
                server.summary.update(json.loads(line))
            if told.get("complete"):
                server.exit_codes.append(int(told["exitcode"]))
            return {}

        def _say(self, document: dict[str, Any], status: int = 200) -> None:
            body = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    with served(Handler) as server.address:
        yield server


_ENTITY = {"id": "e", "name": "team"}
