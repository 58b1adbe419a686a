"""W&B told to work offline: what it would send is in a file, which is read back."""

from __future__ import annotations

import getpass
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.unit.trainer.tracking.runs import a_tracked_run, rows
from tests.unit.trainer.tracking.wandb_server import wandb_server

from slipway_core.protocol.judged import Judged
from slipway_core.resources.status import Verdict
from slipway_core.resources.tracking import Wandb
from slipway_trainer.tracking.tracker import Conclusion, TrackerAway
from slipway_trainer.tracking.wandb_run import WandbRun

KEY = "0123456789abcdef" * 2 + "01234567"
SETTINGS = Wandb(project="tang", entity="team", credentials="wandb")


@pytest.fixture(autouse=True)
def a_home_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_MODE", "offline")


def records(folder: Path) -> Iterator[Any]:
    """Yields what would be sent, in the words of the library's own protocol."""
    from wandb.proto import wandb_internal_pb2

    for file in sorted(folder.glob("wandb/offline-run-*/*.wandb"), key=lambda path: path.stat().st_mtime_ns):
        for data in _framed(file.read_bytes()):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(data)
            yield record


def _framed(content: bytes) -> Iterator[bytes]:
    """Yields the records of LevelDB's log format: blocks of 32 KiB, in which one is whole (1) or in parts (2-4)."""
    place, block, parts = 7, 32768, b""
    while place + 7 <= len(content):
        if block - place % block < 7:
            place += block - place % block
            continue
        length, kind = int.from_bytes(content[place + 4 : place + 6], "little"), content[place + 6]
        parts += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):
            yield parts
            parts = b""


def history(folder: Path) -> list[dict[str, float]]:
    found = []
    for record in records(folder):
        if record.WhichOneof("record_type") == "history":
            items = {(one.key or "/".join(one.nested_key)): json.loads(one.value_json) for one in record.history.item}
            found.append({name: value for name, value in items.items() if not name.startswith("_") or name == "_step"})
    return found


def a_whole_run(folder: Path) -> None:
    tracker = WandbRun(a_tracked_run(folder), SETTINGS)
    begun = tracker.begin()
    assert (begun.link, begun.axis) == (f"file://{folder}/wandb", None)
    tracker.log(rows(1, 2, 3))
    judged = Judged(number=1, verdict=Verdict.PASS)
    facts = {"verdict": "Pass", "model_digest": "sha256:abc"}
    tracker.conclude(Conclusion(judged, 3, 1.7e9, {"evaluation/perplexity": 9.5}, facts))
    tracker.end("finished")
    # finish() only asks the library's process to close the file. Until it has, all but the header may be in its buffer.
    deadline = time.monotonic() + 60
    while not any(record.WhichOneof("record_type") == "exit" for record in records(folder)):
        assert time.monotonic() < deadline, "the library never wrote the end of the run"
        time.sleep(0.01)


def test_the_curves_configuration_and_verdict_are_what_would_be_sent(tmp_path: Path) -> None:
    a_whole_run(tmp_path)
    assert [(row["_step"], row["learn/loss"]) for row in history(tmp_path)] == [(1, 1.0), (2, 0.5), (3, 1 / 3)]
    kinds = {record.WhichOneof("record_type"): record for record in records(tmp_path)}
    run = next(record.run for record in records(tmp_path) if record.WhichOneof("record_type") == "run")
    expected = a_tracked_run(tmp_path)
    assert (run.entity, run.project, run.run_id, run.display_name) == ("team", "tang", expected.id, "demo")
    config = {one.key: json.loads(one.value_json) for one in run.config.update}
    assert config["slipway"] == {"plan_digest": expected.plan_digest, "uid": expected.uid}
    assert config["stages"][0]["optimizer"]["learningRate"] == 2e-4
    told = {
        one.key: json.loads(one.value_json)
        for record in records(tmp_path)
        if record.WhichOneof("record_type") == "summary"
        for one in record.summary.update
    }
    assert (told["verdict"], told["model_digest"], told["evaluation/perplexity"]) == ("Pass", "sha256:abc", 9.5)
    assert "exit" in kinds


def test_H_nothing_of_the_machine_the_code_or_the_key_goes_there(tmp_path: Path) -> None:
    a_whole_run(tmp_path)
    kinds = {record.WhichOneof("record_type") for record in records(tmp_path)}
    assert not kinds & {"stats", "output", "output_raw", "files", "metadata"} - {"files"}, kinds
    (file,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    content = file.read_bytes()
    for name, secret in {
        "program": sys.argv[0],
        "folder": os.getcwd(),
        "key": KEY,
        "user": f"/home/{getpass.getuser()}",
    }.items():
        assert secret.encode() not in content, name
    # The name of a machine may be of two letters, which random ids and checksums have too.
    said = "\n".join(map(str, records(tmp_path)))
    assert not re.search(rf"(?<!\w){re.escape(socket.gethostname())}(?!\w)", said), "host"
    sent = {path.name for path in tmp_path.glob("wandb/offline-run-*/files/*")}
    assert not sent & {"wandb-metadata.json", "requirements.txt", "output.log", "diff.patch"}, sent
    assert KEY not in "".join(
        path.read_text(errors="replace") for path in tmp_path.rglob("*") if path.is_file() and path != file
    )


ASK = """
import sys
from pathlib import Path
from tests.unit.trainer.tracking.runs import a_tracked_run
from tests.unit.trainer.tracking.test_wandb import SETTINGS
from slipway_trainer.tracking import wandb_run

wandb_run._SECONDS = 3.0
try:
    wandb_run.WandbRun(a_tracked_run(Path(sys.argv[1])), SETTINGS).begin()
except Exception as error:
    print(f"{type(error).__name__}: {error}")
"""


@pytest.mark.parametrize(
    ("key", "said"),
    [
        (KEY, "TrackerAway: W&B does not answer: "),
        (None, "TrackerRefuses: W&B does not let us in: "),
        ("too-short", "TrackerRefuses: W&B does not let us in: "),
    ],
)
def test_no_key_and_a_server_that_is_away_say_what_to_do(tmp_path: Path, key: str | None, said: str) -> None:
    # In a process of its own, since the library reads the environment once.
    own = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    own |= {"WANDB_BASE_URL": "http://127.0.0.1:9", "TMPDIR": str(tmp_path), **({"WANDB_API_KEY": key} if key else {})}
    ended = subprocess.run(
        [sys.executable, "-c", ASK, str(tmp_path)], env=own, capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.stdout.startswith(said), ended.stdout + ended.stderr
    assert list(tmp_path.glob("slipway-wandb-*")) == []
    if "lets" in said or "let us" in said:
        assert "Set WANDB_API_KEY" in ended.stdout
    assert KEY not in ended.stdout + ended.stderr


TELL = """
import os, sys
from pathlib import Path
from tests.unit.trainer.tracking.runs import a_tracked_run, rows
from tests.unit.trainer.tracking.test_wandb import SETTINGS
from slipway_core.protocol.judged import Judged
from slipway_core.resources.status import Verdict
from slipway_trainer.tracking import wandb_run
from slipway_trainer.tracking.tracker import Conclusion, TrackerAway

folder, steps, outcome = Path(sys.argv[1]), [int(n) for n in sys.argv[2].split(",")], sys.argv[3]
tracker = wandb_run.WandbRun(a_tracked_run(folder), SETTINGS)
begun = tracker.begin()
print(begun.axis, begun.link)
tracker.log([row for row in rows(*steps) if row.axis > begun.axis])
if outcome == "killed":
    os._exit(9)
if outcome == "finished":
    judged, metrics = Judged(number=1, verdict=Verdict.PASS), {"evaluation/perplexity": 9.5}
    tracker.conclude(Conclusion(judged, 6, 1.7e9, metrics, {"verdict": "Pass"}))
tracker.end(outcome)
"""


def tell(address: str, folder: Path, steps: list[int], outcome: str) -> str:
    """Tells rows in a process of its own, and returns which step the server had and where the run is seen."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    scratch = folder / "scratch"
    scratch.mkdir(exist_ok=True)
    own |= {"WANDB_BASE_URL": address, "WANDB_API_KEY": KEY, "TMPDIR": str(scratch)}
    command = [sys.executable, "-c", TELL, str(folder), ",".join(map(str, steps)), outcome]
    ended = subprocess.run(command, env=own, capture_output=True, text=True, timeout=100, check=False)
    assert ended.returncode == (9 if outcome == "killed" else 0), ended.stderr
    if outcome == "paused":
        assert list(scratch.glob("slipway-wandb-*")) == [], "what the library keeps to itself goes"
    return ended.stdout.strip()


def test_a_wrong_key_says_what_to_do(tmp_path: Path) -> None:
    with wandb_server("f" * 40) as server:
        own = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
        own |= {"WANDB_BASE_URL": server.address, "WANDB_API_KEY": KEY}
        command = [sys.executable, "-c", ASK, str(tmp_path)]
        said = subprocess.run(command, env=own, capture_output=True, text=True, timeout=100, check=False).stdout
    assert said.startswith("TrackerRefuses: W&B "), said
    assert "key" in said.lower()
    assert KEY not in said


@pytest.mark.slow
def test_a_server_gets_each_step_once_over_several_attempts_and_one_that_was_killed(tmp_path: Path) -> None:
    with wandb_server(KEY) as server:
        link = f"{server.address}/team/tang/runs/{a_tracked_run(tmp_path).id}"
        assert tell(server.address, tmp_path, [1, 2, 3], "paused") == f"-1 {link}"
        assert [(row["_step"], row["learn/loss"]) for row in server.history] == [(1, 1), (2, 0.5), (3, 1 / 3)]
        tell(server.address, tmp_path, [1, 2, 3, 4, 5], "killed")
        assert tell(server.address, tmp_path, [1, 2, 3, 4, 5, 6], "finished").endswith(link)
        assert [row["_step"] for row in server.history] == [1, 2, 3, 4, 5, 6]
        assert {one["name"] for one in server.upserts} == {a_tracked_run(tmp_path).id}
        assert (server.summary["verdict"], server.summary["evaluation/perplexity"]) == ("Pass", 9.5)
        assert server.exit_codes[-1] == 0
        assert {one["host"] for one in server.upserts if one["host"]} <= {"slipway"}
        assert server.files.keys() <= {"wandb-summary.json", "config.yaml"}, "no code, no packages, no metadata"
        assert not [path for path in server.others if "otel" in path], "no reports of the library about itself"


def test_a_run_that_cannot_be_finished_leaves_no_files_of_the_library(tmp_path: Path) -> None:
    class Broken:
        def finish(self, **_: Any) -> None:
            raise BrokenPipeError("its process is gone")

    scratch = tmp_path / "scratch"
    scratch.mkdir()
    run = WandbRun(a_tracked_run(tmp_path), SETTINGS, _run=Broken(), _scratch=str(scratch))
    with pytest.raises(TrackerAway, match="its process is gone"):
        run.end("paused")
    assert not scratch.exists()
