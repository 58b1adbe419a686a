"""What a node does on a machine whose package manager is busy, as a fresh one's is."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

PACKAGES = Path(__file__).parents[3] / "tools/testcluster/lib/packages.sh"

BUSY = """#!/bin/sh
echo "$@" >>"$0.log"
[ -e "$0.busy" ] || { touch "$0.busy"; echo "E: Could not get lock /var/lib/apt/lists/lock."; exit 100; }
"""
BROKEN = """#!/bin/sh
echo "$@" >>"$0.log"
echo "E: Unable to locate package nonsense"
exit 100
"""


def apt_get(script: str, folder: Path) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """Runs our apt_get with this as apt-get. Returns how it ended, and the calls."""
    stand_in = folder / "apt-get"
    stand_in.write_text(script)
    stand_in.chmod(0o755)
    environment = os.environ | {"PATH": f"{folder}:{os.environ['PATH']}"}
    command = ["bash", "-c", f"set -euo pipefail; . {PACKAGES}; apt_get update"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30)
    return done, (folder / "apt-get.log").read_text().splitlines()


def test_the_lock_of_apts_lists_is_waited_for(tmp_path: Path) -> None:
    done, calls = apt_get(BUSY, tmp_path)
    assert done.returncode == 0, done.stdout
    assert calls == ["-o DPkg::Lock::Timeout=600 update"] * 2


def test_every_other_error_ends_it_at_once(tmp_path: Path) -> None:
    done, calls = apt_get(BROKEN, tmp_path)
    assert (done.returncode, len(calls)) == (1, 1)
    assert "nonsense" in done.stdout
