"""What `make setup` says on a machine where it cannot work, before it has downloaded or written anything."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]

Setup = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def setup(tmp_path: Path) -> Setup:
    """Run tools/setup.sh in a copy of the checkout that has no .venv, with some commands replaced by scripts."""
    checkout, commands = tmp_path / "checkout", tmp_path / "commands"
    for name in ("requirements", "tools"):
        shutil.copytree(ROOT / name, checkout / name)
    for part in ("core", "host", "fetching", "trainer", "serving", "operator", "cli"):
        (checkout / part).mkdir()
        shutil.copy(ROOT / part / "pyproject.toml", checkout / part)
    commands.mkdir()

    def run(replaced: dict[str, str], **environment: str) -> subprocess.CompletedProcess[str]:
        for name, script in replaced.items():
            (commands / name).write_text(f"#!/bin/sh\n{script}\n")
            (commands / name).chmod(0o755)
        path = f"{commands}:{os.defpath}"
        done = subprocess.run(
            [checkout / "tools/setup.sh"],
            env={"PATH": path, "HOME": str(tmp_path), **environment},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert not (checkout / ".venv").exists(), "a set-up that cannot work leaves nothing behind"
        return done

    return run


def pythons(script: str) -> dict[str, str]:
    """Every name under which a Python is looked for, replaced by one script."""
    return dict.fromkeys(("python3", *(f"python3.{minor}" for minor in range(11, 15))), script)


def test_unknown_variant_names_the_two_that_exist(setup: Setup) -> None:
    done = setup({}, VARIANT="gpu")
    assert done.returncode == 1
    assert done.stderr == "make setup: VARIANT=gpu is not a set; use VARIANT=cpu or VARIANT=cuda\n"


def test_old_python_is_named_with_its_version_and_the_remedy(setup: Setup) -> None:
    done = setup(pythons('[ "$1" = -V ] && echo Python 3.10.12 || exit 1'))
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    for words in ("needs Python 3.11 or newer", "found Python 3.10.12", "apt-get install", "PYTHON="):
        assert words in done.stderr


def test_missing_venv_module_names_the_package(setup: Setup) -> None:
    done = setup(pythons('case "$2" in *ensurepip*) exit 1;; esac; exit 0'))
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "has no venv module" in done.stderr
    assert "apt-get install python3-venv" in done.stderr


@pytest.mark.parametrize("variant", ["cpu", "cuda"])
def test_full_disk_is_found_before_the_download(setup: Setup, variant: str) -> None:
    full = 'echo "Filesystem 1024-blocks Used Available Capacity Mounted"; echo "/dev/x 9 9 2097152 99% /"'
    done = setup(pythons("exit 0") | {"df": full}, VARIANT=variant)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert f"the {variant} set needs" in done.stderr
    assert "2 GiB are free" in done.stderr


def test_other_systems_are_refused_by_name(setup: Setup) -> None:
    done = setup({"uname": "echo Darwin"})
    assert done.returncode == 1
    assert done.stderr == "make setup: Slipway runs on Linux; this is Darwin\n"
