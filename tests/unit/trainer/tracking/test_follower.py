"""The process beside a training: what it tells, and that nothing of it is waited for."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from tests.http_server import served
from tests.unit.trainer.tracking.metrics_file import scalars, write_rows
from tests.unit.trainer.tracking.runs import TENSORBOARD, a_plan, told

from slipway_core.protocol.workspace import Workspace
from slipway_core.resources.status import Progress
from slipway_trainer.step.errors import Diverged, Interrupted
from slipway_trainer.tracking import record
from slipway_trainer.tracking.following import following

AWAY = {"mlflow": {"uri": "http://127.0.0.1:9", "experiment": "e", "credentials": "k"}}


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    found = Workspace(tmp_path)
    found.stage("learn").root.mkdir(parents=True)
    return found


def until(condition: Callable[[], object], seconds: float = 40.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.1)


def has_told(workspace: Workspace, tracker: str, step: int) -> Callable[[], bool]:
    return lambda: record.read(workspace.stage("learn").tracking).get(tracker, record.Told()).step >= step


def is_there(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False


def test_a_run_that_nobody_tracks_has_no_such_process(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLIPWAY_TRACKING", raising=False)
    monkeypatch.setenv("WANDB_API_KEY", "secret")
    with following(a_plan(), workspace, "learn") as follower:
        assert follower is None
        assert "WANDB_API_KEY" not in os.environ
    assert list(workspace.stage("learn").root.iterdir()) == []


def test_the_curve_is_there_while_the_stage_trains_and_whole_when_it_has_ended(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in told(**TENSORBOARD).items():
        monkeypatch.setenv(name, value)
    metrics = workspace.stage("learn").metrics
    with following(a_plan(), workspace, "learn") as follower:
        write_rows(metrics, [1, 2, 3])
        until(has_told(workspace, "tensorboard", 3))
        write_rows(metrics, [4, 5], after=3)
    assert follower is not None
    assert not is_there(follower.process.pid)
    assert [step for step, _ in scalars(workspace.tensorboard)["learn/loss"]] == [1, 2, 3, 4, 5]
    ended = follower.beside(Progress(step=5, total=5, warning="the disk is full"))
    assert ended == Progress(
        step=5, total=5, warning="the disk is full", links={"tensorboard": f"file://{workspace.tensorboard}"}
    )


def test_one_that_is_away_leaves_the_other_alone_and_a_warning_and_no_key(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for name, value in {**told(**TENSORBOARD, **AWAY), "MLFLOW_TRACKING_TOKEN": "very-secret"}.items():
        monkeypatch.setenv(name, value)
    write_rows(workspace.stage("learn").metrics, [1, 2, 3])
    with following(a_plan(), workspace, "learn") as follower:
        assert "MLFLOW_TRACKING_TOKEN" not in os.environ, "a process that trains has none of it"
        until(has_told(workspace, "tensorboard", 3))
        until(lambda: record.read(workspace.stage("learn").tracking).get("mlflow", record.Told()).warning)
    assert follower is not None
    ended = follower.beside(Progress(step=3, total=3))
    assert ended is not None
    assert ended.warning is not None
    assert ended.warning.startswith("tracking.mlflow: http://127.0.0.1:9 does not")
    assert "the training goes on" in ended.warning
    logged = capfd.readouterr()
    assert logged.out.count("learn: WARNING: tracking.mlflow") == 1
    assert "very-secret" not in logged.out + logged.err + "".join(
        path.read_text(errors="replace") for path in workspace.root.rglob("*") if path.is_file()
    )


def test_one_that_never_answers_is_waited_for_a_few_seconds(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = threading.Event()

    class Silent(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            gate.wait(60)

        do_POST = do_GET

    with served(Silent) as address:
        for name, value in told(mlflow={"uri": address, "experiment": "e"}).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr("slipway_trainer.tracking.following._END_SECONDS", 2.0)
        with following(a_plan(), workspace, "learn") as follower:
            time.sleep(1)
            begun = time.monotonic()
        gate.set()
    assert time.monotonic() - begun < 30
    assert follower is not None
    assert not is_there(follower.process.pid)


@pytest.mark.parametrize("failure", [Interrupted("stopped"), Diverged("no number")])
def test_a_stage_that_fails_says_what_it_would_and_where_it_was_seen(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, failure: Interrupted | Diverged
) -> None:
    for name, value in told(**TENSORBOARD).items():
        monkeypatch.setenv(name, value)
    write_rows(workspace.stage("learn").metrics, [1])
    failure.progress = Progress(step=1, total=9)

    def train() -> None:
        with following(a_plan(), workspace, "learn"):
            until(has_told(workspace, "tensorboard", 1))
            raise failure

    with pytest.raises(type(failure)):
        train()
    assert failure.progress is not None
    assert failure.progress.links == {"tensorboard": f"file://{workspace.tensorboard}"}


def test_it_ends_with_the_process_that_trains_however_that_ends(workspace: Workspace) -> None:
    plan = workspace.root / "plan.json"
    plan.write_text(a_plan().to_json())
    trains = """
import sys, time
from pathlib import Path
from slipway_core import plan as plans
from slipway_core.protocol.workspace import Workspace
from slipway_trainer.tracking.following import following

plan = Path(sys.argv[1])
with following(plans.load(plan.read_text()), Workspace(plan.parent), "learn") as follower:
    print(follower.process.pid, flush=True)
    time.sleep(600)
"""
    with subprocess.Popen(
        [sys.executable, "-c", trains, str(plan)],
        env={**os.environ, **told(**TENSORBOARD)}, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout
        pid = int(process.stdout.readline())
        assert is_there(pid)
        process.send_signal(signal.SIGKILL)
    until(lambda: not is_there(pid))


def test_what_the_executor_says_is_read_strictly(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    from slipway_trainer.step.errors import BadConfig

    monkeypatch.setenv("SLIPWAY_TRACKING", json.dumps({"comet": {}}))
    with pytest.raises(BadConfig, match="SLIPWAY_TRACKING"), following(a_plan(), workspace, "learn"):
        pass
