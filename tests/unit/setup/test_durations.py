"""What a test costs includes what it started, while that lives and after it has ended."""

import os
import subprocess
import sys

import pytest
from tests import durations

WORKS = """
import sys, time
while time.process_time() < 0.3:
    pass
print("done", flush=True)
sys.stdin.read()
"""


def test_what_a_process_took_counts_while_it_lives_and_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(durations._MARK, str(os.getpid()))
    begun = durations.cpu_seconds()
    child = subprocess.Popen([sys.executable, "-c", WORKS], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdin
    assert child.stdout
    child.stdout.readline()
    living = durations.cpu_seconds() - begun
    child.stdin.close()
    child.wait()
    child.stdout.close()
    ended = durations.cpu_seconds() - begun
    assert living >= 0.28
    assert living <= ended < living + 0.25
