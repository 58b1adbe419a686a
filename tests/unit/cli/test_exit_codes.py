import errno

import pytest

from slipway import exit_codes
from slipway.local.files import write_atomically
from slipway.main import _report
from slipway_core.protocol import step_result
from slipway_core.protocol.step_result import StepError, StepResult
from slipway_core.protocol.workspace import Workspace
from slipway_core.resources.status import Phase, RunStatus, StepState, StepStatus


@pytest.mark.parametrize(("kind", "code"), [("BadData", 2), ("Overlap", 2), ("NoSpace", 1), ("Diverged", 1)])
def test_a_run_that_failed_on_what_it_was_given_ends_like_a_refused_file(tmp_path, kind, code):
    workspace = Workspace(tmp_path)
    path = workspace.result("prepare", 1)
    path.parent.mkdir()
    error = StepError(kind=kind, message="a.jsonl:3: no 'text'")
    path.write_text(step_result.encode(StepResult(step="prepare", attempt=1, error=error)))
    status = RunStatus(phase=Phase.FAILED, stages=[StepStatus(name="prepare", state=StepState.FAILED, attempt=1)])
    assert exit_codes.of_run(status, workspace) == code


def test_a_step_that_left_no_result_failed(tmp_path):
    status = RunStatus(phase=Phase.FAILED, stages=[StepStatus(name="prepare", state=StepState.FAILED, attempt=1)])
    assert exit_codes.of_run(status, Workspace(tmp_path)) == exit_codes.FAILED


def test_a_full_disk_is_named_with_what_to_do(tmp_path, monkeypatch, capsys):
    def full(_handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left") as caught:
        write_atomically(tmp_path / "status.json", "{}")
    assert _report(caught.value) == exit_codes.FAILED
    assert f"{tmp_path}/status.json: No space left on device; free space there" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
