import os
import subprocess
import sys
import time

CHILD = "import os, signal, sys, time; from slipway_host.parent import end_with; "


def test_a_process_ends_with_its_parent_however_that_ends():
    # A parent that is killed, and its child, which says its pid once the kernel has been asked.
    child = CHILD + "assert end_with(os.getppid(), signal.SIGKILL); print(os.getpid(), flush=True); time.sleep(60)"
    parent = f"import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {child!r}]); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        process.kill()
    deadline = time.monotonic() + 10
    while _is_alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not _is_alive(pid)


def test_a_parent_that_is_gone_already_is_told():
    code = CHILD + "sys.exit(0 if not end_with(1 << 22, signal.SIGTERM) else 1)"
    assert subprocess.run([sys.executable, "-c", code], timeout=30).returncode == 0


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0] != "Z"
