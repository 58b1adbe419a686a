"""What people and machines see of a stage."""

import http.client
import io
import json
import resource
import socket
import struct
import threading
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from slipway_core.resources.api import in_words
from slipway_core.resources.status import Progress
from slipway_trainer.step import disk_space
from slipway_trainer.step.progress import Metrics, Reporter, line, read

P = Progress(
    step=3, total=9, epoch=0.5, tokens=700, loss=2.5, learning_rate=1e-4, tokens_per_second=1234.5, eta_seconds=61
)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_log_gets_a_line_every_few_seconds() -> None:
    out, clock = io.StringIO(), Clock()
    reporter = Reporter("pretrain", out=out, clock=clock)
    for now in (0.0, 1.0, 4.9, 5.0, 6.0):
        clock.now = now
        reporter.step(P)
    assert out.getvalue().count("\n") == 2
    assert "\r" not in out.getvalue()
    reporter.step(P, force=True)
    assert out.getvalue().count("\n") == 3


def test_a_terminal_gets_one_line_in_its_place() -> None:
    out, clock = Terminal(), Clock()
    reporter = Reporter("pretrain", out=out, clock=clock)
    for clock.now in (0.0, 1.0, 2.0):
        reporter.step(P)
    assert "\n" not in out.getvalue()
    assert out.getvalue().count("\r") == 3
    reporter.log("done")
    assert out.getvalue().endswith("\npretrain: done\n")


def test_a_line_reads_well() -> None:
    shown = line("pretrain", P)
    assert shown == "pretrain: step 3/9 · epoch 0.50 · loss 2.5000 · lr 1.00e-04 · 1,234 tokens/s · 1 min 1 s left"
    assert [in_words(s) for s in (5.2, 65, 3700)] == ["5 s", "1 min 5 s", "1 h 1 min"]


def test_progress_and_metrics_are_served() -> None:
    reporter = Reporter("pretrain", out=io.StringIO())
    port = reporter.serve({"SLIPWAY_PROGRESS_PORT": "0"})
    try:
        reporter.step(P)
        reporter.warn("checkpoint", "the disk is full")
        url = f"http://127.0.0.1:{port}"
        shown = json.loads(urllib.request.urlopen(f"{url}/progress").read())
        assert Progress.model_validate(shown, by_alias=True, by_name=False) == P.model_copy(
            update={"warning": "the disk is full"}
        )
        text = urllib.request.urlopen(f"{url}/metrics").read().decode()
        assert "slipway_train_step 3.0" in text
        assert "slipway_train_validation_loss" not in text, "it is not known"
        with pytest.raises(urllib.error.HTTPError):
            urllib.request.urlopen(f"{url}/other")
    finally:
        reporter.close()


def test_what_a_training_goes_at_is_told_to_people_and_to_prometheus() -> None:
    reporter = Reporter("prefer", out=io.StringIO())
    told = {"accuracy": 0.75, "margin": 0.125, "validation_accuracy": 0.5, "mfu": 0.45, "peak_memory_bytes": 1 << 30}
    reporter.step(P.model_copy(update=told | {"time_shares": {"compute": 0.9, "data": 0.1}}))
    text = reporter.metrics_text().decode()
    for figure, value in {
        "accuracy": 0.75,
        "margin": 0.125,
        "validation_accuracy": 0.5,
        "mfu_ratio": 0.45,
        "peak_memory_bytes": float(1 << 30),
        'time_ratio{part="compute"}': 0.9,
        'time_ratio{part="data"}': 0.1,
    }.items():
        (said,) = [entry for entry in text.splitlines() if entry.startswith(f"slipway_train_{figure} ")]
        assert float(said.rsplit(" ", 1)[1]) == value
    shown = line("prefer", reporter.progress)
    assert "accuracy 0.75" in shown
    assert "1,234 tokens/s · MFU 45% · " in shown


def test_what_prepare_has_fetched_is_its_progress(tmp_path: Path) -> None:
    clock = Clock()
    reporter = Reporter("prepare", out=io.StringIO(), clock=clock, kept=lambda: disk_space.taken(tmp_path / "fetched"))
    port = reporter.serve({"SLIPWAY_PROGRESS_PORT": "0"})

    def kept() -> int:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/progress") as answer:
            return json.load(answer)["kept"]

    try:
        assert kept() == 0
        (tmp_path / "fetched/data").mkdir(parents=True)
        with (tmp_path / "fetched/data/rows.part").open("wb") as part:
            part.truncate(1 << 30)
            part.write(b"x" * (1 << 20))
        assert kept() == 0, "the folder is looked through now and then"
        clock.now += 5
        assert 1 << 20 <= kept() < 2 << 20, "a hole is not yet fetched"
        reporter.say("reading")
        assert kept() >= 1 << 20
    finally:
        reporter.close()


def test_whoever_asks_and_goes_away_leaves_nothing_in_the_log(capfd: pytest.CaptureFixture[str]) -> None:
    """On a busy machine an executor waits no longer than a second, and asks again: 19 tracebacks in one prepare."""
    asked, gone = threading.Event(), threading.Event()

    def kept() -> int:
        asked.set()
        assert gone.wait(30)
        return 0

    reporter = Reporter("prepare", out=io.StringIO(), kept=kept)
    port = reporter.serve({"SLIPWAY_PROGRESS_PORT": "0"})
    before = set(threading.enumerate())
    try:
        with socket.create_connection(("127.0.0.1", port or 0)) as client:
            # Closed with a reset, as by a process that is killed: what is written to it fails at once.
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.sendall(b"GET /progress HTTP/1.1\r\nHost: x\r\n\r\n")
            assert asked.wait(30)
        gone.set()
        for thread in set(threading.enumerate()) - before:
            thread.join(30)
    finally:
        reporter.close()
    assert capfd.readouterr().err == ""


def test_what_fails_while_it_answers_is_in_the_log(capfd: pytest.CaptureFixture[str]) -> None:
    def kept() -> int:
        raise RuntimeError("no such folder")

    reporter = Reporter("prepare", out=io.StringIO(), kept=kept)
    port = reporter.serve({"SLIPWAY_PROGRESS_PORT": "0"})
    try:
        with pytest.raises(http.client.RemoteDisconnected):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/progress")
    finally:
        reporter.close()
    assert "no such folder" in capfd.readouterr().err


def test_what_another_process_says_of_the_step_is_in_what_is_asked_for_and_not_in_the_steps_own_words() -> None:
    def beside(progress: Progress) -> Progress:
        return progress.model_copy(update={"links": {"tensorboard": "file:///x"}, "warning": "mlflow is away"})

    reporter = Reporter("pretrain", out=io.StringIO(), beside=beside)
    reporter.step(Progress(step=1, total=2))
    asked = reporter.observed()
    assert (asked.step, asked.links, asked.warning) == (1, {"tensorboard": "file:///x"}, "mlflow is away")
    assert reporter.progress.links is None


def test_a_taken_port_costs_the_figures_not_the_training() -> None:
    first = Reporter("a", out=io.StringIO())
    port = first.serve({"SLIPWAY_PROGRESS_PORT": "0"})
    try:
        out = io.StringIO()
        assert Reporter("b", out=out).serve({"SLIPWAY_PROGRESS_PORT": str(port)}) is None
        assert "no progress is served" in out.getvalue()
        assert Reporter("c", out=io.StringIO()).serve({}) is None
    finally:
        first.close()


def test_a_warning_stays_until_it_is_taken_back_beside_what_goes_on_and_other_warnings() -> None:
    out = io.StringIO()
    reporter = Reporter("pretrain", out=out)
    reporter.warn("checkpoint", "step 4: the disk is full")
    reporter.warn("metrics", "step 5: one row is missing")
    reporter.step(P)
    assert reporter.progress.warning == "step 4: the disk is full. step 5: one row is missing"
    reporter.warn("metrics", "step 6: two rows are missing", again=False)
    reporter.say("validating")
    assert reporter.progress.message == "validating"
    assert reporter.progress.warning == "step 4: the disk is full. step 6: two rows are missing"
    reached = reporter.reached()
    assert reached is not None
    assert (reached.message, reached.warning) == (None, reporter.progress.warning)
    reporter.warn("checkpoint", None)
    reporter.step(P)
    assert (reporter.progress.message, reporter.progress.warning) == (None, "step 6: two rows are missing")
    assert out.getvalue().count("WARNING") == 2, "the log says the third no more"


def test_what_a_step_finds_stays_in_its_progress_and_in_its_log() -> None:
    out = io.StringIO()
    reporter = Reporter("prepare", out=out)
    assert reporter.warnings is None
    reporter.add_warning("the judge does not answer")
    reporter.warn("checkpoint", "the disk is full")
    reporter.step(P)
    reporter.say("checking")
    assert reporter.observed().warnings == ["the judge does not answer"]
    assert reporter.observed().warning == "the disk is full"
    assert out.getvalue().count("prepare: WARNING: the judge does not answer\n") == 1
    reached = reporter.reached()
    assert reached is not None
    assert (reached.warnings, reporter.warnings) == (None, ["the judge does not answer"]), "a result has it once"
    for number in range(20):
        reporter.add_warning(f"row {number}")
    assert reporter.warnings is not None
    assert (len(reporter.warnings), reporter.warnings[-1]) == (8, "more warnings are in the log of this step")
    assert "row 19" in out.getvalue()


def test_rows_that_a_full_disk_does_not_take_are_written_once_it_does(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    metrics = Metrics(path, after_step=0)
    metrics.write({"step": 1, "loss": 1.0})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # Half a row has room: the kernel takes it, and then no more.
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 10, hard))
    try:
        for step in range(2, 400):
            with pytest.raises(OSError, match="File too large"):
                metrics.write({"step": step, "loss": float(step)})
        assert metrics.unwritten == 398
        assert [row["step"] for row in read(path)] == [1]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    metrics.write({"step": 400, "loss": 400.0})
    metrics.close()
    assert metrics.unwritten == 0
    assert [row["step"] for row in read(path)] == list(range(1, 401))


def test_metrics_are_taken_back_to_the_step_that_is_resumed(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    first = Metrics(path, after_step=0)
    for step in (1, 2, 3):
        first.write({"step": step, "loss": float(step)})
    first.close()
    with path.open("a") as file:
        file.write('{"step": 4, "lo')
    second = Metrics(path, after_step=2)
    second.write({"step": 3, "loss": 9.0})
    second.close()
    assert [(row["step"], row["loss"]) for row in read(path)] == [(1, 1.0), (2, 2.0), (3, 9.0)]
