"""D: whatever is killed, whenever, the same command goes on and ends as if nothing had been."""

import contextlib
import json
import os
import random
import signal
import time

import pytest
from tests.e2e.machine import Machine, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

KILLS = int(os.environ.get("SLIPWAY_RUN_KILLS", "2"))
"""Kills of one run: with its training while a checkpoint is written, and of the command alone. `make chaos` has ten, in
about two minutes, and `tests/integration/trainer/test_kills.py` kills stages at all other moments for a tenth of that.
"""
LONG = ("--no-serve", "--set", "stages.pretrain.steps=80", "--set", "checkpoints.everySteps=4", "--set", "retries=100")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    machine = Machine.at(tmp_path_factory.mktemp("undisturbed"))
    machine.slipway("run", "small.yaml", *LONG)
    return machine


def losses(machine):
    found = {}
    for path in (machine.folder / ".slipway").glob("runs/small/small-*/stages/*/metrics.jsonl"):
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        found[path.parent.name] = {row["step"]: row["loss"] for row in rows if row.get("loss") is not None}
    return found


def training(machine):
    """Returns the pid of the process that trains, once it does."""
    records = sorted((machine.folder / ".slipway/runs/small/attempts").glob("pretrain-*.json"), key=os.path.getmtime)
    if not records:
        return None
    record = json.loads(records[-1].read_text() or "{}")
    return record["process"]["pid"] if "process" in record and "finishedAt" not in record else None


def checkpoints(machine):
    return next((machine.folder / ".slipway").glob("runs/small/small-*/stages/pretrain/checkpoints"), None)


def writing_a_checkpoint(machine):
    folder = checkpoints(machine)
    try:
        return folder is not None and any(not e.name.startswith("step-") for e in os.scandir(folder))
    except FileNotFoundError:
        return False


def test_D_kills_at_random_moments_change_nothing(undisturbed, tmp_path):
    chance = random.Random(7)
    machine = Machine.at(tmp_path)
    hit_a_checkpoint = False
    for kill in range(KILLS):
        process = machine.start("run", "small.yaml", *LONG)
        pid = until(lambda process=process: training(machine) or process.poll() is not None, 60, "the training")
        if process.poll() is not None:
            break
        if kill == 0:
            # One of them while a checkpoint is written: poll fast, kill at once.
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline and not hit_a_checkpoint:
                hit_a_checkpoint = writing_a_checkpoint(machine)
        else:
            time.sleep(chance.uniform(1, 9))
        for target in [pid, process.pid] if kill % 2 == 0 else [process.pid]:
            if target is not True:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(target, signal.SIGKILL)
        process.wait()
    machine.slipway("run", "small.yaml", *LONG)
    assert hit_a_checkpoint
    assert losses(machine) == losses(undisturbed)
    ours, theirs = machine.status(), undisturbed.status()
    assert ours["artifact"]["digest"] == theirs["artifact"]["digest"]


def test_D_ctrl_c_checkpoints_and_the_same_command_goes_on(undisturbed, tmp_path):
    machine = Machine.at(tmp_path)
    process = machine.start("run", "small.yaml", *LONG)
    until(
        lambda: (
            machine.folder.joinpath(".slipway").exists()
            and machine.step("pretrain").get("progress", {}).get("step", 0) > 6
        ),
        60,
    )
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130, output
    assert machine.status()["phase"] == "Suspended"
    machine.slipway("run", "small.yaml", *LONG)
    assert losses(machine) == losses(undisturbed)
    assert machine.step("pretrain")["failures"] == 0


def test_D_the_file_may_say_another_number_of_processes_in_between(undisturbed, tmp_path):
    machine = Machine.at(tmp_path)
    process = machine.start("run", "small.yaml", *LONG)
    until(lambda: checkpoints(machine) is not None and len(list(checkpoints(machine).glob("step-*"))) > 1, 120)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 130, output
    file = machine.folder / "small.yaml"
    file.write_text(file.read_text().replace("  checkpoints:", "  compute: {processesPerNode: 2}\n  checkpoints:"))
    machine.slipway("run", "small.yaml", *LONG)
    ours, theirs = losses(machine), losses(undisturbed)
    assert ours.keys() == theirs.keys()
    for stage, of_stage in ours.items():
        assert of_stage == pytest.approx(theirs[stage], abs=1e-5), stage
    decided = json.loads((checkpoints(machine).parent / "resolved.json").read_text())
    assert [decided["world_size"], *(one["world_size"] for one in decided["history"])] == [2, 1]
