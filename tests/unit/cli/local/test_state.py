import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.unit.core.runs import a_run

from slipway.local.runs.admission import admit
from slipway.local.state import RunFolder, State, StateError


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return admit(State.below(tmp_path), a_run(serving=False), tmp_path / "run.yaml", datetime.now(UTC)).folder


def write(path: Path, **fields: object) -> None:
    before = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(before | fields))


def test_what_a_newer_slipway_wrote_into_a_status_is_kept(folder: RunFolder):
    write(folder.root / "status.json", phase="Training", tomorrow={"is": "sunny"})
    folder.save_status(folder.status())
    assert json.loads((folder.root / "status.json").read_text())["tomorrow"] == {"is": "sunny"}


def test_a_field_of_a_newer_slipway_is_named_and_nobody_is_told_to_remove_the_run(folder: RunFolder):
    run = json.loads((folder.root / "run.json").read_text())
    write(folder.root / "run.json", spec={**run["spec"], "tomorrow": "sunny"})
    with pytest.raises(StateError) as raised:
        folder.load()
    assert str(raised.value) == (
        f"{folder.root}/run.json: spec.tomorrow was written by a newer version of slipway: upgrade this one"
    )


def test_a_damaged_file_is_named_with_the_place(folder: RunFolder):
    write(folder.root / "run.json", metadata=7)
    with pytest.raises(StateError, match=r"run\.json: damaged at metadata: .*; mend it or remove the folder"):
        folder.load()
