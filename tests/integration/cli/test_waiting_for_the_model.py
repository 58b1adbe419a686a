"""`slipway run` while the model that passed is started: real processes; trainer and server are stand-ins."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.integration.cli.local_endpoint import DAEMON, LocalEndpoint
from tests.unit.core.runs import a_run

from slipway import exit_codes
from slipway.local.endpoints import daemon
from slipway.local.runs import session
from slipway.local.runs.attempts import Attempts
from slipway_core.resources.status import EndpointPhase, Phase

TRAINER = (sys.executable, str(Path(__file__).parents[2] / "unit/cli/local/runs/stand_in_trainer.py"))
BROKEN = {"exit": [1, "OSError: no memory for the weights"], "load": 0.1}


class LocalRun:
    """The command of a run whose endpoint has stand-in servers."""

    def __init__(self, folder: Path) -> None:
        self.endpoint = LocalEndpoint(folder)
        template = {"port": self.endpoint.port, "rollout": {"probation": "1s", "startTimeout": "20s"}}
        self.run = a_run(serving={"endpoint": "chat", "template": template})
        record = self.endpoint.state.parity("e" * 64)  # Which the evaluation of the stand-in names.
        record.parent.mkdir(parents=True)
        record.write_text("{}")
        self.file = folder / "run.yaml"
        self.file.write_text(json.dumps(self.run.to_document()))

    def start(self, capsys: pytest.CaptureFixture[str], **options: Any) -> tuple[int, str]:
        """Returns its exit code and what it printed."""
        capsys.readouterr()
        code = session.run_file(self.file, workdir=self.endpoint.folder, **options)
        return code, capsys.readouterr().out

    def behaves(self, **behaviour: Any) -> None:
        """Says how the server of its model behaves from its next start on."""
        workspace = self.endpoint.state.run(self.run.name).workspace()
        workspace.artifact.mkdir(exist_ok=True)
        (workspace.artifact / "behaviour.json").write_text(json.dumps(behaviour))

    @property
    def phase(self) -> Phase:
        return self.endpoint.state.run(self.run.name).status().phase


@pytest.fixture
def local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalRun]:
    behaviours = tmp_path / "behaviours.json"
    behaviours.write_text("{}")
    monkeypatch.setenv("STAND_IN", str(behaviours))
    monkeypatch.setattr(session, "Attempts", partial(Attempts, trainer=TRAINER))
    monkeypatch.setattr(daemon, "ensure_daemon", partial(daemon.ensure_daemon, command=DAEMON))
    made = LocalRun(tmp_path)
    try:
        yield made
    finally:
        made.endpoint.clean_up()


def test_a_live_version_that_cannot_start_again_ends_the_command_with_the_reason(
    local: LocalRun, capsys: pytest.CaptureFixture[str]
) -> None:
    first = local.start(capsys)
    assert first[0] == 0, first[1]
    local.endpoint.stop()
    local.behaves(**BROKEN)
    began = time.monotonic()
    code, said = local.start(capsys)
    assert code == exit_codes.FAILED
    assert time.monotonic() - began < 15, "not the time of a server that loads"
    why = "its server ended with exit code 1: OSError: no memory for the weights"
    assert f"passed and does not answer: the server of version 1 ended 3 times in a row, at last: {why}\n" in said
    assert said.count(f"version 1 starts again, after {why}\n") == 1
    assert f"slipway logs {local.run.name} --stage serve" in said
    assert local.endpoint.files.daemon() is not None, "the endpoint goes on trying"
    local.behaves()
    local.endpoint.wait_until_live(1)
    code, said = local.start(capsys)
    assert (code, local.phase) == (0, Phase.SERVING)
    assert "Serving. Chat with it" in said


def test_a_run_that_served_and_whose_server_dies_meanwhile_is_not_said_to_serve(
    local: LocalRun, capsys: pytest.CaptureFixture[str]
) -> None:
    assert local.start(capsys)[0] == 0
    local.behaves(**BROKEN, crashes=True)
    assert local.endpoint.chat().status_code >= 500
    local.endpoint.wait(lambda: local.endpoint.status.phase is EndpointPhase.DEGRADED, "it is seen")
    code, said = local.start(capsys)
    assert code == exit_codes.FAILED
    assert "Serving. Chat with it" not in said
    assert "does not answer: the server of version 1 ended 3 times" in said


def test_a_server_that_takes_long_is_waited_for_and_not_longer_than_was_asked(
    local: LocalRun, capsys: pytest.CaptureFixture[str]
) -> None:
    assert local.start(capsys)[0] == 0
    local.endpoint.stop()
    local.behaves(load=6)
    code, said = local.start(capsys, start_within=timedelta(seconds=2))
    assert code == exit_codes.FAILED
    assert "does not answer: it did not answer within 2 s: version 1: " in said
    code, said = local.start(capsys)
    assert (code, local.phase) == (0, Phase.SERVING)


def test_ctrl_c_ends_the_wait_alone_and_the_endpoint_goes_on(
    local: LocalRun, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert local.start(capsys)[0] == 0
    local.endpoint.stop()
    local.behaves(load=3)
    threading.Timer(1.5, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
    code, said = local.start(capsys)
    assert (code, local.phase) == (exit_codes.INTERRUPTED, Phase.ROLLING_OUT), said
    assert "waiting no longer …" in said
    assert "Stopped waiting. Endpoint chat goes on starting the model" in said
    assert "checkpoint" not in said
    local.endpoint.wait_until_live(1)
    assert local.start(capsys)[0] == 0


def test_B_a_candidate_that_cannot_start_ends_the_run_and_leaves_the_last_good_version_alone(
    local: LocalRun, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    admit = session.admit

    def admit_broken(*arguments: Any) -> Any:
        admitted = admit(*arguments)
        local.behaves(**BROKEN)
        return admitted

    monkeypatch.setattr(session, "admit", admit_broken)
    local.endpoint.serve("before")
    local.endpoint.wait_until_live(1)
    told: list[str] = []
    stop = threading.Event()

    def ask() -> None:
        while not stop.wait(0.1):
            told.append(local.endpoint.answers_with())

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        code, said = local.start(capsys)
    finally:
        stop.set()
        asking.join()
    assert (code, local.phase) == (exit_codes.FAILED, Phase.FAILED)
    assert "OSError: no memory for the weights; version 1 stays live" in said
    assert set(told) == {"before"}
    assert len(told) > 5
