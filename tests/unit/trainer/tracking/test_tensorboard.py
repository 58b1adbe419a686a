"""Event files, read back as TensorBoard reads them."""

from __future__ import annotations

import socket
from pathlib import Path

from tests.unit.trainer.tracking.metrics_file import scalars, texts
from tests.unit.trainer.tracking.runs import a_tracked_run, rows

from slipway_core.protocol.judged import Judged
from slipway_core.resources.status import Verdict
from slipway_trainer.tracking.tensorboard_files import TensorBoardFiles
from slipway_trainer.tracking.tracker import Conclusion


def test_curves_of_all_stages_share_an_axis(tmp_path: Path) -> None:
    tracker = TensorBoardFiles(a_tracked_run(tmp_path))
    assert tracker.begin().link == f"file://{tmp_path}/tensorboard"
    tracker.log(rows(1, 2, stage="pretrain"))
    tracker.log(rows(1, 2, stage="sft", before=2))
    tracker.end("finished")
    found = scalars(tmp_path / "tensorboard")
    assert found["pretrain/loss"] == [(1, 1.0), (2, 0.5)]
    assert found["sft/loss"] == [(3, 1.0), (4, 0.5)]
    assert '"vocabSize": 512' in texts(tmp_path / "tensorboard")["plan"]


def test_a_later_attempt_goes_on_and_what_comes_again_takes_the_place_of_what_was(tmp_path: Path) -> None:
    first = TensorBoardFiles(a_tracked_run(tmp_path))
    first.begin()
    first.log(rows(1, 2, 3, 4, 5))
    first.end("paused")
    second = TensorBoardFiles(a_tracked_run(tmp_path))
    second.begin()
    second.rewind(4)
    second.log(rows(4, 5, 6, attempt=2))
    second.end("paused")
    found = scalars(tmp_path / "tensorboard")
    assert [step for step, _ in found["learn/loss"]] == [1, 2, 3, 4, 5, 6]
    assert [value for _, value in found["learn/attempt"]] == [1, 1, 1, 2, 2, 2]


def test_the_verdict_and_the_figures_of_the_evaluation_are_there(tmp_path: Path) -> None:
    tracker = TensorBoardFiles(a_tracked_run(tmp_path))
    tracker.begin()
    judged = Judged(number=1, verdict=Verdict.FAIL)
    facts = {"verdict": "Fail", "model_digest": "sha256:abc"}
    tracker.conclude(Conclusion(judged, 7, 1.7e9, {"evaluation/perplexity": 30.5}, facts))
    tracker.end("finished")
    assert scalars(tmp_path / "tensorboard")["evaluation/perplexity"] == [(7, 30.5)]
    assert '"verdict": "Fail"' in texts(tmp_path / "tensorboard")["verdict"]


def test_H_no_file_of_it_says_where_it_was_made_but_by_its_name(tmp_path: Path) -> None:
    tracker = TensorBoardFiles(a_tracked_run(tmp_path))
    tracker.begin()
    tracker.log(rows(1))
    tracker.end("finished")
    (file,) = (tmp_path / "tensorboard").iterdir()
    assert socket.gethostname().encode() not in file.read_bytes()
