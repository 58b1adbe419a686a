"""Stages as an executor runs them: processes that are stopped and lose each other, and that come in several."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
import urllib.request
from pathlib import Path

import pytest
from safetensors.torch import load_file
from tests.integration.trainer import two_ranks
from tests.integration.trainer.nursery import Nursery
from tests.integration.trainer.training import PRETRAIN, Training, make
from tests.ports import free_port

from slipway_core.protocol import exit_codes
from slipway_trainer.training.checkpoints import checkpoint_files
from slipway_trainer.training.checkpoints.train_state import TrainState

TWO = {"compute": {"processesPerNode": 2}}
LONG = PRETRAIN | {"steps": 4000}


def wait_for_step(run: Training, step: int, process: subprocess.Popen[str], stage: str = "pretrain") -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        try:
            if run.folder(stage).metrics.read_text().count("\n") >= step:
                return
        except OSError:
            pass
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.005)
    raise AssertionError(f"step {step} was not reached in time")


def two_processes(ranks: Nursery, store: Path, *runs: Training) -> None:
    """Trains runs as two ranks that start once for all of them."""
    roots = [str(run.workspace.root) for run in runs]
    said = store.with_name(f"{store.name}-logs")
    ranks.run(two_ranks.__file__, lambda rank: [str(rank), str(store), *roots], said)


@pytest.mark.slow
def test_two_ranks_train_what_one_trains(ranks: Nursery, tmp_path: Path) -> None:
    alone = make(tmp_path / "alone")
    alone.train()
    validated = {"data": {"validation": {"fraction": 0.2, "everySteps": 3}}}
    alone_validated = make(tmp_path / "alone-validated", PRETRAIN | validated)
    alone_validated.train()
    # Three rows a step: the second rank has one micro batch less to do, and does an empty one.
    odd = PRETRAIN | {"batch": {"sequences": 3, "microSequences": 1}}
    alone_odd = make(tmp_path / "alone-odd", odd)
    alone_odd.train()
    sharded = [make(tmp_path / str(zero), PRETRAIN | {"memory": {"zeroStage": zero}}) for zero in range(4)]
    half = [
        make(tmp_path / f"half-{zero}", PRETRAIN | {"precision": "BF16", "memory": {"zeroStage": zero}})
        for zero in range(4)
    ]
    both = make(tmp_path / "validated", PRETRAIN | validated | {"memory": {"zeroStage": 3}})
    odds = [make(tmp_path / f"odd-{zero}", odd | {"memory": {"zeroStage": zero}}) for zero in (1, 3)]
    two_processes(ranks, tmp_path / "store", *sharded, *half, both, *odds)
    for run in sharded:
        assert run.losses() == pytest.approx(alone.losses(), abs=1e-5)
    for run in half:
        assert run.losses() == pytest.approx(alone.losses(), abs=0.02)
    for run in odds:
        assert run.losses() == pytest.approx(alone_odd.losses(), abs=1e-5)
    found = [row["validation_loss"] for row in both.metrics() if row["validation_loss"]]
    expected = [row["validation_loss"] for row in alone_validated.metrics() if row["validation_loss"]]
    assert found == pytest.approx(expected, abs=1e-5)
    weights = load_file(alone.folder().model / "model.safetensors")
    for run in sharded:
        saved = load_file(run.folder().model / "model.safetensors")
        assert saved.keys() == weights.keys()
        assert max(float((saved[name] - weight).abs().max()) for name, weight in weights.items()) < 1e-5


def back_to(run: Training, step: int) -> None:
    """Takes back what was trained after a step."""
    run.folder().done.unlink(missing_ok=True)
    for path in run.folder().checkpoints.glob("step-*"):
        if int(path.name.removeprefix("step-")) > step:
            for file in path.iterdir():
                file.unlink()
            path.rmdir()


@pytest.mark.slow
def test_two_processes_stop_on_the_same_step_and_leave_no_temporary_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    run = make(tmp_path, LONG, **TWO, checkpoints={"everySteps": 100000})
    process = run.start()
    wait_for_step(run, 10, process)
    process.terminate()
    out, _ = process.communicate(timeout=60)
    assert process.returncode == exit_codes.RESTARTABLE, out
    result = run.result()
    assert result.error is not None
    assert result.error.kind == "Interrupted"
    (saved,) = run.folder().checkpoints.glob("step-*")
    state = TrainState.load(saved / checkpoint_files.STATE)
    assert state.step == len(run.losses())
    assert state.world == 2
    # What torch has compiled is kept there for each user.
    assert [path.name for path in temporary.iterdir() if not path.name.startswith("torchinductor_")] == []


def children(pid: int) -> list[int]:
    return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.slow
def test_ranks_end_with_their_launcher_and_a_killed_rank_is_told(tmp_path: Path) -> None:
    run = make(tmp_path, LONG, **TWO)
    process = run.start()
    wait_for_step(run, 3, process)
    ranks = children(process.pid)
    assert len(ranks) == 2
    os.kill(ranks[1], signal.SIGKILL)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 1, out
    result = run.result()
    assert result.error is not None
    assert "killed by SIGKILL" in result.error.message
    process = run.start(attempt=2)
    wait_for_step(run, len(run.metrics()) + 3, process)
    ranks = children(process.pid)
    process.kill()
    process.communicate()
    deadline = time.monotonic() + 10
    while any(Path(f"/proc/{rank}/status").exists() for rank in ranks) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(Path(f"/proc/{rank}").exists() for rank in ranks)


@pytest.mark.slow
def test_without_a_compiler_progress_is_served_and_input_errors_pass_the_launcher(
    tmp_path: Path, no_compiler_env: dict[str, str]
) -> None:
    run = make(tmp_path / "run", LONG)
    port = free_port()
    process = run.start(**no_compiler_env, SLIPWAY_PROGRESS_PORT=str(port))
    try:
        wait_for_step(run, 5, process)
        progress = json.loads(urllib.request.urlopen(f"http://127.0.0.1:{port}/progress").read())
        assert progress["step"] >= 4
        assert progress["total"] == 4000
        metrics = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics").read().decode()
        assert "slipway_train_loss " in metrics
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=60)
        assert process.returncode == exit_codes.RESTARTABLE, out
    finally:
        process.kill()
        process.communicate()
    damaged = make(tmp_path / "damaged", PRETRAIN, **TWO)
    shard = damaged.folder().data("train") / "tokens.bin"
    shard.write_bytes(shard.read_bytes()[:-2])
    process = damaged.start(**no_compiler_env)
    out, _ = process.communicate(timeout=120)
    assert process.returncode == exit_codes.BAD_INPUT, out
    error = damaged.result().error
    assert error is not None
    assert error.kind == "DamagedShard"
    assert str(shard) in error.message
