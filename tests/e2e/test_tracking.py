"""The example with TensorBoard, as a user runs it, beside a tracker that is away; and killed on its way."""

import json
import os
import signal
import time
from pathlib import Path

import pytest
from tests.e2e.machine import Machine, until
from tests.unit.trainer.tracking.metrics_file import scalars, texts

EXAMPLE = str(Path(__file__).parents[2] / "examples/tracking.yaml")
AWAY = ("--set", "tracking.mlflow={uri: 'http://127.0.0.1:9', experiment: e}")
OFTEN = ("--set", "checkpoints.everySteps=10", "--set", "retries=1")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def machine(tmp_path_factory):
    return Machine.at(tmp_path_factory.mktemp("tracked"))


@pytest.fixture(scope="module")
def first(machine):
    """What the command said whose training was killed once, with a tracker away."""
    process = machine.start("run", EXAMPLE, *AWAY, *OFTEN)
    folder = machine.folder / ".slipway/runs/tracking"
    checkpoint = "tracking-*/stages/pretrain/checkpoints/step-00000010"
    until(lambda: list(folder.glob(checkpoint)) or process.poll() is not None, 400, "the first checkpoint")
    record = json.loads((folder / "attempts/pretrain-1.json").read_text())
    os.kill(record["process"]["pid"], signal.SIGKILL)
    output, _ = process.communicate(timeout=400)
    assert process.returncode == 0, output
    return output


def curve(machine):
    (folder,) = (machine.folder / ".slipway/runs/tracking").glob("tracking-*/tensorboard")
    return folder, scalars(folder)["pretrain/loss"]


def test_a_tracker_that_is_away_costs_a_condition_and_the_run_ends_as_it_would(machine, first):
    status = machine.status("tracking")
    assert (status["phase"], status["evaluation"]["verdict"]) == ("Completed", "Pass")
    published = next(one for one in status["conditions"] if one["type"] == "Published")
    assert (published["status"], published["reason"]) == ("False", "PublishFailed")
    assert "tracking.mlflow: http://127.0.0.1:9" in first
    assert machine.step("publish", "tracking")["attempt"] == 2


def test_D_the_curve_of_a_run_that_was_killed_has_each_step_once(machine, first):
    folder, losses = curve(machine)
    assert machine.step("pretrain", "tracking")["attempt"] == 2
    assert [step for step, _ in losses] == list(range(1, 61))
    (metrics,) = (machine.folder / ".slipway/runs/tracking").glob("tracking-*/stages/pretrain/metrics.jsonl")
    rows = [json.loads(line) for line in metrics.read_text().splitlines()]
    assert [value for _, value in losses] == pytest.approx([row["loss"] for row in rows], rel=1e-5)
    assert {row["attempt"] for row in rows} == {1, 2}
    assert json.loads(texts(folder)["verdict"])["verdict"] == "Pass"


def test_the_status_says_where_the_run_is_seen(machine, first):
    folder, _ = curve(machine)
    assert f"tensorboard --logdir {folder}" in machine.slipway("status", "tracking").replace("\n", "")
    assert f"tensorboard --logdir {folder}" in first


def test_the_same_command_without_that_tracker_tells_the_rest_and_trains_nothing(machine, first):
    begun = time.time()
    output = machine.slipway("run", EXAMPLE, *OFTEN)
    assert machine.step("pretrain", "tracking")["attempt"] == 2, output
    published = next(one for one in machine.status("tracking")["conditions"] if one["type"] == "Published")
    assert published["status"] == "True"
    assert time.time() - begun < 120
