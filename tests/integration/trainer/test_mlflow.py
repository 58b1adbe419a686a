"""Runs on a real MLflow server: what is told, what comes again, and what is said of a server that takes nothing."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.http_server import QuietHandler, served
from tests.integration.trainer.mlflow_environment import mlflow_server
from tests.ports import free_port
from tests.unit.trainer.tracking.metrics_file import write_rows
from tests.unit.trainer.tracking.runs import a_tracked_run, rows

from slipway_core.protocol.judged import Judged
from slipway_core.resources.status import Verdict
from slipway_core.resources.tracking import Mlflow
from slipway_trainer.tracking.choose import Choice
from slipway_trainer.tracking.feed import Feed
from slipway_trainer.tracking.metric_rows import MetricRows
from slipway_trainer.tracking.mlflow_server import MlflowServer
from slipway_trainer.tracking.record import Record, read
from slipway_trainer.tracking.tracker import Conclusion, TrackerAway, TrackerRefuses

FACTS = {"verdict": "Pass", "model_digest": "sha256:abc"}


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with mlflow_server(tmp_path_factory.mktemp("mlflow")) as address:
        yield address


def client(address: str) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=address)


def the_run(address: str, experiment: str) -> Any:
    found = client(address).get_experiment_by_name(experiment)
    (run,) = client(address).search_runs([found.experiment_id])
    return run


@pytest.mark.slow
def test_one_run_has_the_curves_the_configuration_and_the_verdict(address: str, tmp_path: Path) -> None:
    settings = Mlflow(uri=address, experiment="团队 tang")
    tracker = MlflowServer(a_tracked_run(tmp_path), settings)
    link = tracker.begin().link
    tracker.log(rows(1, 2, 3))
    tracker.end("paused")
    assert the_run(address, "团队 tang").info.status == "RUNNING"
    again = MlflowServer(a_tracked_run(tmp_path), settings)
    assert again.begin().link == link, "the same run in every attempt"
    again.rewind(3)
    again.log(rows(3, 4, attempt=2))
    again.conclude(Conclusion(Judged(number=1, verdict=Verdict.PASS), 4, 1.7e9, {"evaluation/perplexity": 9.5}, FACTS))
    again.end("finished")
    run = the_run(address, "团队 tang")
    assert (run.info.status, run.info.run_name) == ("FINISHED", "demo")
    assert link == f"{address}/#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}"
    history = client(address).get_metric_history(run.info.run_id, "learn/loss")
    assert [(one.step, one.value) for one in history] == [(1, 1.0), (2, 0.5), (3, 1 / 3), (4, 0.25)]
    attempts = client(address).get_metric_history(run.info.run_id, "learn/attempt")
    assert [(one.step, one.value) for one in attempts] == [(1, 1), (2, 1), (3, 1), (3, 2), (4, 2)]
    assert run.data.metrics["evaluation/perplexity"] == 9.5
    assert run.data.params["stages.learn.optimizer.learningRate"] == "0.0002"
    assert run.data.params["model.scratch.tokenizer.train.vocabSize"] == "512"
    assert (run.data.tags["slipway.verdict"], run.data.tags["slipway.model_digest"]) == ("Pass", "sha256:abc")
    told = " ".join([*run.data.tags.values(), *run.data.params.values()])
    assert socket.gethostname() not in told
    assert not {name for name in run.data.tags if "git" in name or "host" in name}


@pytest.mark.slow
def test_a_run_that_failed_says_so_until_it_goes_on(address: str, tmp_path: Path) -> None:
    settings = Mlflow(uri=address, experiment="failing")
    tracker = MlflowServer(a_tracked_run(tmp_path), settings)
    tracker.begin()
    tracker.end("failed")
    assert the_run(address, "failing").info.status == "FAILED"
    MlflowServer(a_tracked_run(tmp_path), settings).begin()
    assert the_run(address, "failing").info.status == "RUNNING"


@pytest.mark.slow
def test_a_server_that_was_away_is_caught_up(tmp_path: Path) -> None:
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    metrics, file = tmp_path / "metrics.jsonl", tmp_path / "tracking.json"
    write_rows(metrics, range(1, 4))
    now, said = [0.0], list[str]()
    settings = Mlflow(uri=address, experiment="e")
    choice = Choice("mlflow", "e", lambda: MlflowServer(a_tracked_run(tmp_path), settings))
    feed = Feed(choice, MetricRows(metrics, "learn", 0), Record.open(file), lambda: now[0], said.append)
    feed.advance()
    assert f"tracking.mlflow: {address} does not" in read(file)["mlflow"].warning
    with mlflow_server(tmp_path, port):
        now[0] += 300
        write_rows(metrics, [4])
        feed.advance()
        run = the_run(address, "e")
        history = client(address).get_metric_history(run.info.run_id, "learn/loss")
        assert [one.step for one in history] == [1, 2, 3, 4]
    assert read(file)["mlflow"].warning == ""
    assert len(said) == 1


def test_a_configuration_that_was_told_in_part_is_told_in_full_by_who_comes_next(tmp_path: Path) -> None:
    """The first process ends after it has made the run, and before the server has all of the configuration."""
    params, runs, refusing = dict[str, str](), list[dict[str, Any]](), [True]

    class Server(QuietHandler):
        def do_GET(self) -> None:
            self.answer({"experiment": {"experiment_id": "1", "name": "e", "lifecycle_stage": "active"}})

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            kept = {"params": [{"key": key, "value": value} for key, value in params.items()]}
            if self.path.endswith("/runs/search"):
                self.answer({"runs": [run | {"data": kept} for run in runs]})
            elif self.path.endswith("/runs/create"):
                runs.append({"info": {"run_id": "r", "run_uuid": "r", "experiment_id": "1", "status": "RUNNING"}})
                self.answer({"run": runs[0]})
            elif self.path.endswith("/runs/log-batch") and refusing[0] and params:
                self.answer({"error_code": "INTERNAL_ERROR"}, 500)
            else:
                params.update({one["key"]: one["value"] for one in asked.get("params", ())})
                self.answer({})

        def answer(self, document: dict[str, Any], status: int = 200) -> None:
            body = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    run = replace(a_tracked_run(tmp_path), config={f"p{n}": n for n in range(150)})
    with served(Server) as address:
        settings = Mlflow(uri=address, experiment="e")
        with pytest.raises(TrackerAway):
            MlflowServer(run, settings).begin()
        assert len(params) == 100
        refusing[0] = False
        MlflowServer(run, settings).begin()
    assert params == {f"p{n}": str(n) for n in range(150)}
    assert len(runs) == 1


@pytest.mark.parametrize(("status", "kind"), [(401, TrackerRefuses), (403, TrackerRefuses), (503, TrackerAway)])
def test_a_key_that_is_wrong_is_told_from_a_server_that_is_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int, kind: type[Exception]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "a-secret-token")
    seen = list[str]()

    class Door(QuietHandler):
        def do_GET(self) -> None:
            seen.append(self.headers.get("Authorization", ""))
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

    with served(Door) as address, pytest.raises(kind) as caught:
        MlflowServer(a_tracked_run(tmp_path), Mlflow(uri=address, experiment="e", credentials="k")).begin()
    assert seen[0] == "Bearer a-secret-token"
    assert "a-secret-token" not in str(caught.value)
    assert kind is TrackerAway or "tracking.mlflow.credentials" in str(caught.value)
