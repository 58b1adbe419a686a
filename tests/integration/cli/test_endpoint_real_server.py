"""The endpoint's executor with the real server and a real, tiny model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.cli.local_endpoint import LocalEndpoint
from tests.integration.serving.planted_faults import record
from tests.integration.serving.running_server import wait_until_gone
from tests.integration.serving.tiny_model import make_tiny_model

from slipway.local.endpoints.daemon import COMMAND
from slipway_core.protocol.artifact import Manifest

SETTINGS = {"engine": {"kvCache": "64Mi"}, "rollout": {"probation": "1s", "drain": "10s", "startTimeout": "4m"}}
LOADS_WITHIN = 240.0


@pytest.fixture
def endpoint(tmp_path: Path) -> Iterator[LocalEndpoint]:
    made = LocalEndpoint(tmp_path, daemon=COMMAND)
    try:
        yield made
    finally:
        made.clean_up()


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def judged(endpoint: LocalEndpoint, manifest: Manifest) -> Path:
    """Leaves what an evaluation of the model leaves."""
    path = endpoint.folder / "parity.json"
    path.write_text(record(endpoint.folder / "models" / "tiny", of=manifest).dump(), encoding="utf-8")
    return path


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_A_a_real_server_that_is_not_the_model_that_was_judged_ends_before_it_listens(endpoint: LocalEndpoint):
    manifest = make_tiny_model(endpoint.folder / "models" / "tiny")
    path = judged(endpoint, manifest)
    said = json.loads(path.read_text(encoding="utf-8"))
    for piece in said["pieces"]:
        piece["logProbabilities"] = [value - 0.01 for value in piece["logProbabilities"]]
    path.write_text(json.dumps(said), encoding="utf-8")
    endpoint.passes("tiny", manifest.digest, record=path)
    endpoint.ask_for("tiny", digest=manifest.digest, **SETTINGS)
    endpoint.start()
    endpoint.wait_until_failed(1, LOADS_WITHIN)
    assert endpoint.status.live is None
    failed = next(one for one in endpoint.status.conditions if one.type == "ParityFailed")
    assert "log p differs by 0.01 in the median of" in failed.message
    assert "first at chat-question, token 0" in failed.message


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_real_server_answers_and_ends_with_the_daemon(endpoint: LocalEndpoint):
    """That one takes over from another while it is asked, tests/e2e/test_local.py has."""
    manifest = make_tiny_model(endpoint.folder / "models" / "tiny")
    digest, record = manifest.digest, judged(endpoint, manifest)
    endpoint.passes("tiny", digest, record=record)
    endpoint.ask_for("tiny", digest=digest, **SETTINGS)
    endpoint.start()
    endpoint.wait_until_live(1, LOADS_WITHIN)
    answer = endpoint.chat(max_length=4).json()
    assert answer["usage"]["completion_tokens"] >= 1
    assert answer["model"] == "chat"
    assert endpoint.get("/readyz").status_code == 200
    assert endpoint.status.live is not None
    assert endpoint.status.live.parity is not None, "it has proven itself"
    assert endpoint.get("/promptz").json()["parity"]["pass"] is True
    assert "text/html" in endpoint.get("/").headers["content-type"]
    said = (endpoint.files.version(1) / "server.log").read_text()
    assert f"the verdict on {digest} is signed by the key" in said, "the server verified it itself"

    (server,) = endpoint.servers()
    engines = children(server)
    assert engines, "the engine is a process of its own"
    endpoint.kill_daemon()
    wait_until_gone([server, *engines], 10)


def test_a_model_that_was_changed_after_its_verdict_is_refused_by_its_digest(endpoint: LocalEndpoint):
    folder = endpoint.folder / "models" / "tiny"
    digest = make_tiny_model(folder).digest
    with (folder / "config.json").open("a") as file:
        file.write(" ")
    endpoint.passes("tiny", digest)
    endpoint.ask_for("tiny", digest=digest)
    endpoint.start()
    endpoint.wait_until_failed(1)
    message = endpoint.status.history[0].message or ""
    assert "config.json: damaged" in message
    assert "Put it back from a copy, or make the model again by a run of another name" in message
