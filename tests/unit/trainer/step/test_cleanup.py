"""A deleted run's folder goes, and nothing else does."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from slipway_core.protocol import exit_codes, variables
from slipway_core.protocol.workspace import Workspace
from slipway_trainer.main import app
from slipway_trainer.step import cleanup
from slipway_trainer.step.errors import BadConfig

NAME = "demo-0b5e1a52"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run's folder with one file in each of its parts."""
    ws = Workspace(tmp_path / "claim" / NAME)
    stage = ws.stage("learn")
    files = [ws.prepared, ws.tokenizer / "tokenizer.json", ws.report(1), ws.evaluation_documents, ws.fence("prepare")]
    files += [stage.data("train") / "0.bin", stage.checkpoint(100) / "state", ws.artifact / "model.safetensors"]
    # What an attempt that was killed left behind.
    files += [ws.root / "artifact.tmp-2" / "model.safetensors", ws.root / ".cache" / "rows.jsonl"]
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("x")
    return ws.root


def test_the_folder_goes_and_its_neighbour_stays(folder: Path) -> None:
    neighbour = folder.parent / "other-0b5e1a53"
    neighbour.mkdir()
    cleanup.remove(folder, keep_artifact=False)
    assert list(folder.parent.iterdir()) == [neighbour]


def test_the_artifact_alone_is_kept(folder: Path) -> None:
    cleanup.remove(folder, keep_artifact=True)
    assert [str(file.relative_to(folder)) for file in folder.rglob("*")] == ["artifact", "artifact/model.safetensors"]


def test_what_a_server_of_the_artifact_proves_itself_by_is_kept_with_it(folder: Path) -> None:
    for number in ("1", "2"):
        (folder / "evaluation" / number).mkdir(parents=True, exist_ok=True)
        (folder / "evaluation" / number / "samples.jsonl").write_text("what somebody asked")
    (folder / "evaluation" / "2" / "parity.json").write_text("{}")
    for _ in range(2):
        cleanup.remove(folder, keep_artifact=True)
        left = sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())
        assert left == ["artifact/model.safetensors", "evaluation/2/parity.json"]
    assert not (folder / "evaluation" / "1").exists()
    cleanup.remove(folder, keep_artifact=False)
    assert not folder.exists()


def test_doing_it_again_is_done(folder: Path) -> None:
    for keep in (True, True, False, False, True):
        cleanup.remove(folder, keep_artifact=keep)
    assert not folder.exists()


def to_a_stranger(folder: Path) -> None:
    (folder / "thesis.tex").write_text("years of work")


def to_a_link(folder: Path) -> None:
    folder.rename(folder.with_name("elsewhere"))
    folder.symlink_to(folder.with_name("elsewhere"))


def to_a_file(folder: Path) -> None:
    folder.rename(folder.with_name("elsewhere"))
    folder.write_text("x")


@pytest.mark.parametrize(
    ("change", "words"), [(to_a_stranger, "thesis.tex is nothing"), (to_a_link, "a link"), (to_a_file, "a file")]
)
def test_what_is_not_a_runs_folder_is_left_as_it_is(folder: Path, change: Callable[[Path], None], words: str) -> None:
    change(folder)
    before = sorted(folder.parent.rglob("*"))
    with pytest.raises(BadConfig, match=words):
        cleanup.remove(folder, keep_artifact=False)
    assert sorted(folder.parent.rglob("*")) == before


@pytest.mark.parametrize("name", ["inputs", "demo", "demo-0b5e1a5", "demo-0B5E1A52", "-0b5e1a52", "lost+found", ".."])
def test_a_folder_that_is_not_called_like_a_runs_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "inner" / name).mkdir(parents=True, exist_ok=True)
    with pytest.raises(BadConfig, match="not called like a run's folder"):
        cleanup.remove(tmp_path / "inner" / name, keep_artifact=False)


def test_links_are_removed_and_never_followed(folder: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (outside / "deep").mkdir(parents=True)
    (outside / "deep" / "precious").write_text("x")
    (folder / "logs").symlink_to(outside)
    (folder / "stages" / "learn" / "data" / "there").symlink_to(outside / "deep")
    (folder / "stages" / "file").symlink_to(outside / "deep" / "precious")
    cleanup.remove(folder, keep_artifact=False)
    assert not folder.exists()
    assert (outside / "deep" / "precious").read_text() == "x"


@pytest.mark.parametrize("keep_artifact", [False, True])
@pytest.mark.parametrize("removed", range(12))
def test_a_cleanup_that_was_killed_is_done_by_the_next_one(
    folder: Path, monkeypatch: pytest.MonkeyPatch, removed: int, keep_artifact: bool
) -> None:
    left = removed
    unlink = os.unlink

    def dies(path: str, **where: int) -> None:
        nonlocal left
        if left == 0:
            raise KeyboardInterrupt
        left -= 1
        unlink(path, **where)

    with monkeypatch.context() as patch, contextlib.suppress(KeyboardInterrupt):
        patch.setattr(os, "unlink", dies)
        cleanup.remove(folder, keep_artifact=keep_artifact)
    cleanup.remove(folder, keep_artifact=keep_artifact)
    assert (os.listdir(folder) if folder.exists() else []) == (["artifact"] if keep_artifact else [])


def test_the_command_says_what_it_refuses_with_the_code_of_bad_input(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["cleanup", "--workspace", str(tmp_path / "inputs")])
    assert result.exit_code == exit_codes.BAD_INPUT
    assert "BadConfig" in result.output


@pytest.mark.parametrize("report", ["prepare.json", "artifact/manifest.json"])
@pytest.mark.parametrize("keep_artifact", [False, True])
def test_H_what_another_plan_made_is_left_to_its_run(folder: Path, report: str, keep_artifact: bool) -> None:
    """Whoever may write the record of a plan knows the name of a folder, and not the plan of what lies in it."""
    (folder / report).parent.mkdir(exist_ok=True)
    (folder / report).write_text(json.dumps({"plan_digest": "sha256:other"}))
    before = sorted(folder.rglob("*"))
    with pytest.raises(BadConfig, match="is of the plan sha256:other"):
        cleanup.remove(folder, keep_artifact=keep_artifact, plan_digest="sha256:mine")
    assert sorted(folder.rglob("*")) == before
    cleanup.remove(folder, keep_artifact=False, plan_digest="sha256:other")
    assert not folder.exists()


def test_the_plan_is_told_by_the_environment(folder: Path) -> None:
    (folder / "prepare.json").write_text(json.dumps({"plan_digest": "sha256:other"}))
    told = {variables.PLAN_DIGEST_VARIABLE: "sha256:mine"}
    done = CliRunner().invoke(app, ["cleanup", "--workspace", str(folder)], env=told)
    assert done.exit_code == exit_codes.BAD_INPUT
    assert folder.exists()
