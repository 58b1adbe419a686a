"""What the gate of a run costs is read from what the run has left."""

from __future__ import annotations

from pathlib import Path

import pytest
from bench import gate_seconds
from tests.unit.cli.evidence import entered
from tests.unit.cli.judged_run import judged, served

from slipway.local.state import State
from slipway_core.resources.status import RunEndpointStatus, RunStatus

REPORT = {
    "candidate": {"seconds": 5.0, "perplexity": {"seconds": 1.5}, "conversations": {}, "generation": {"seconds": 2.0}},
    "baseline": {"note": "none"},
    "parity": {"seconds": 0.25},
}


def timed(status: RunStatus) -> RunStatus:
    times = {"started_at": "2026-01-02T03:04:00Z", "finished_at": "2026-01-02T03:04:02Z"}
    stages = [step.model_copy(update=times) if step.name == "evaluate" else step for step in status.stages]
    endpoint = RunEndpointStatus(name="chat", version=3)
    return status.model_copy(update={"stages": stages, "endpoint": endpoint})


def test_each_part_has_its_seconds_and_what_is_left_is_the_rest(tmp_path: Path) -> None:
    folder = judged(tmp_path, report=REPORT)
    folder.save_status(timed(folder.status()))
    endpoint = served(tmp_path, folder)
    log = endpoint.version(3) / "server.log"
    log.parent.mkdir(parents=True)
    line = "INFO This is the model that was judged: log p differs by 1.1e-06 ({} s).\n"
    log.write_text(line.format(0.3) + "between\n" + line.format(0.2))
    assert dict(gate_seconds.rows(State.below(tmp_path), "tang")) == {
        "step evaluate, its process included": 2.0,
        "evaluate, the model: texts": 1.5,
        "evaluate, the model: answers": 2.0,
        "evaluate, the model: the record of parity": 0.25,
        "evaluate, the model: loading, the engine, bounds and the rest": 1.25,
        "server, at its last start: is it the model that was judged?": 0.2,
        "from the verdict until it is live": 3.0,
    }


def test_a_run_that_was_not_judged_says_so(tmp_path: Path) -> None:
    entered(tmp_path, status=RunStatus())
    with pytest.raises(SystemExit, match="tang: was not judged"):
        list(gate_seconds.rows(State.below(tmp_path), "tang"))
