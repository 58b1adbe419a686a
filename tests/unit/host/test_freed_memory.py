"""Memory that was freed goes back to the kernel."""

import subprocess
import sys

import pytest

# In a process of its own: one that has done other work fills holes it already has.
HOLES = """
from pathlib import Path
from slipway_host.freed_memory import give_back

BLOCKS, SIZE = 2000, 64 << 10

def own_memory():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("RssAnon"))

before = own_memory()
blocks = [bytearray(b"x") * SIZE for _ in range(BLOCKS)]
used = own_memory() - before
assert used > 0.9 * BLOCKS * SIZE, used
kept = blocks[::50]
del blocks
assert own_memory() - before > 0.5 * used, "the C library gave it back by itself"
give_back()
assert own_memory() - before < 0.2 * used, own_memory() - before
assert all(len(block) == SIZE for block in kept)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the C library is another one there")
def test_holes_between_what_is_still_used_are_given_back() -> None:
    done = subprocess.run([sys.executable, "-c", HOLES], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
