"""The control plane of the tests themselves."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.integration.api_client import eventually

_STARTS_ONE = """
import pathlib, sys, time
from tests.integration.control_plane import started
with started(pathlib.Path(sys.argv[1])):
    print("up", flush=True)
    time.sleep(600)
"""


def test_it_ends_with_the_tests_however_they_end_and_no_other_with_it(control_plane, tmp_path):
    state = tmp_path / "killed"
    tests = subprocess.Popen([sys.executable, "-c", _STARTS_ONE, str(state)], stdout=subprocess.PIPE)
    try:
        assert tests.stdout
        assert tests.stdout.readline() == b"up\n"
        # etcd, three of Kubernetes and KWOK, beside what waits to stop them.
        assert len(_processes_of(state)) > 5
    finally:
        tests.kill()
        tests.wait()
    eventually(lambda: not _processes_of(state), "its processes have ended", 30)
    assert control_plane.kubectl("get", "--raw", "/readyz") == "ok"


def _processes_of(state: Path) -> list[str]:
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue  # It has just ended.
        if str(state) in words and _STARTS_ONE not in words:
            found.append(words)
    return found
