import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from slipway.local import processes
from slipway.local.processes import ProcessId

LINGERS = """
import ctypes, threading, time
threading.Thread(target=time.sleep, args=(60,)).start()
print("ready", flush=True)
ctypes.CDLL(None).pthread_exit(None)
"""


def start(code):
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stdout.readline() == "ready\n"
    return process


def until(condition):
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_process_whose_first_thread_has_ended_is_still_alive():
    """A large process looks like that for a moment while it ends; it holds its memory, and has no exit code yet."""
    process = start(LINGERS)
    leader = ProcessId.of(process.pid)
    try:
        stat = Path(f"/proc/{process.pid}/stat")
        until(lambda: stat.read_text().rpartition(")")[2].split()[0] == "Z")
        assert process.poll() is None
        assert processes.is_alive(leader)
        assert processes.group_is_alive(leader)
    finally:
        process.kill()
        process.wait()
    assert not processes.group_is_alive(leader)


def test_a_zombie_is_gone():
    process = start("print('ready', flush=True)")
    leader = ProcessId.of(process.pid)
    until(lambda: not processes.is_alive(leader))
    process.wait()


def test_a_group_outlives_its_leader():
    process = start(
        "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']);"
        "print('ready', flush=True)"
    )
    leader = ProcessId.of(process.pid)
    process.wait()
    assert not processes.is_alive(leader)
    assert processes.group_is_alive(leader)
    processes.signal_group(leader, signal.SIGKILL)
    until(lambda: not processes.group_is_alive(leader))


def test_another_process_with_the_same_pid_is_another():
    assert not processes.is_alive(ProcessId(os.getpid(), 1))
    with pytest.raises(KeyError):
        ProcessId.from_document({"pid": 1})
