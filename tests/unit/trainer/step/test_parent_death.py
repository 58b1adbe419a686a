"""No process outlives the one that started it."""

import subprocess
import sys
import time

DIES = """
import os, sys, time
from slipway_trainer.step import parent_death
parent_death.die_with_parent(int(sys.argv[1]) or os.getppid(), exit_code=7)
print("ready", flush=True)
time.sleep(90)
"""
STARTS = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1], '0'])"


def test_a_process_whose_parent_is_gone_already_ends_at_once() -> None:
    # Nobody's parent is the process 999999999.
    ended = subprocess.run([sys.executable, "-c", DIES, "999999999"], timeout=60, capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (7, "")


def test_a_process_is_killed_with_its_parent() -> None:
    parent = subprocess.Popen([sys.executable, "-c", STARTS, DIES], stdout=subprocess.PIPE, text=True)
    assert parent.stdout
    assert parent.stdout.readline() == "ready\n"
    parent.kill()
    killed = time.monotonic()
    # Whoever is left holds this pipe open.
    assert parent.stdout.read() == ""
    assert time.monotonic() - killed < 60
    parent.wait(30)
    parent.stdout.close()
