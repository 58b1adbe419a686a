"""What the init container of a step does, with the shell of this machine in a folder of a test."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from slipway_operator.manifests.run.sub_paths import SCRIPT


def look(
    own: Path | str = "", mounted: list[Path] | None = None, programs: Path | None = None, **paths: Path
) -> tuple[int, str]:
    """Runs it for paths of claims, each called by its name; mounted is what the step has, those where left out, and
    programs a folder of some that stand in for those of this machine."""
    given = [word for name, path in paths.items() for word in (f"{name}: pvc://data/{path.name}", str(path))]
    roots = "\n".join(str(path) for path in (paths.values() if mounted is None else mounted))
    found = {"PATH": f"{programs}:{os.environ['PATH']}"} if programs else {}
    command = ["sh", "-c", SCRIPT, "sh", str(own), roots, *given]
    ended = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **found})
    return ended.returncode, ended.stderr.strip()


@pytest.fixture
def claim(tmp_path: Path) -> Path:
    for name in ("sft/train.jsonl", "pool/deep/x.jsonl", "own name/a*b.jsonl"):
        file = tmp_path / "data" / name
        file.parent.mkdir(parents=True)
        file.write_text("{}")
    return tmp_path / "data"


def test_the_runs_folder_is_made_and_made_again(tmp_path: Path) -> None:
    folder = tmp_path / "demo-12345678"
    for _ in range(2):
        assert look(folder) == (0, "")
        assert folder.is_dir()


def test_a_folder_that_cannot_be_made_is_told_and_tried_again(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    code, said = look(tmp_path / "file" / "demo-12345678")
    assert (code, "Not a directory" in said) == (1, True)


def test_what_is_there_is_found_and_nothing_is_made(claim: Path) -> None:
    before = sorted(claim.rglob("*"))
    assert look(file=claim / "sft/train.jsonl", folder=claim / "pool", odd=claim / "own name/a*b.jsonl") == (0, "")
    assert sorted(claim.rglob("*")) == before


@pytest.mark.parametrize("missing", ["sft/typo.jsonl", "typo/train.jsonl", "sft/train.jsonl/x", "s*t", "dangling"])
def test_what_is_not_there_is_bad_input_by_its_field_and_nothing_is_made(claim: Path, missing: str) -> None:
    (claim / "dangling").symlink_to("nowhere")
    before = sorted(claim.rglob("*"))
    code, said = look(there=claim / "sft", model_from=claim / missing)
    assert code == 2
    assert said.startswith(f"model_from: pvc://data/{(claim / missing).name}: N")
    assert said.endswith("in the claim; put it there, or correct the URI")
    assert sorted(claim.rglob("*")) == before


def test_a_loop_of_links_is_bad_input(claim: Path) -> None:
    (claim / "loop").symlink_to("loop")
    code, said = look(data=claim / "loop")
    assert (code, "Too many levels of symbolic links in the claim" in said) == (2, True)


@pytest.mark.parametrize("fault", ["Stale file handle", "Input/output error", "Permission denied", "of another kind"])
def test_a_fault_of_the_volume_is_told_and_tried_again(claim: Path, tmp_path: Path, fault: str) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "ls").write_text(f"#!/bin/sh\necho \"ls: cannot access '$3': {fault}\" >&2\nexit 2\n")
    (programs / "ls").chmod(0o755)
    code, said = look(programs=programs, data=claim / "sft")
    assert (code, said) == (1, f"data: pvc://data/sft: the claim cannot be looked at: {fault}")


def test_a_link_out_of_what_is_mounted_is_refused_rather_than_passed_over(claim: Path) -> None:
    (claim / "sft/more.jsonl").symlink_to("../pool/deep/x.jsonl")
    code, said = look(data=claim / "sft")
    assert code == 2
    assert said.startswith(f"data: pvc://data/sft: a link in it leads to {claim}/pool/deep/x.jsonl, and a step sees")
    assert look(data=claim / "sft", other=claim / "pool") == (0, ""), "the run names that, too"
    assert look(data=claim / "sft", mounted=[claim]) == (0, "")


def test_links_that_change_nothing_are_left_alone(claim: Path) -> None:
    (claim / "sft/again.jsonl").symlink_to("train.jsonl")
    (claim / "sft/nowhere").symlink_to("/mnt/of/long/ago")
    (claim / "sft-2").mkdir()
    (claim / "current").symlink_to("sft")
    assert look(data=claim / "sft", named=claim / "current") == (0, "")
    (claim / "sft/near").symlink_to("../sft-2")
    assert look(data=claim / "sft")[0] == 2, "a name that begins alike is another folder"
