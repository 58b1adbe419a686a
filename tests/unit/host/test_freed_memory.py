"""Memory that was freed goes back to the kernel."""

import sys
from pathlib import Path

import pytest

from slipway_host.freed_memory import give_back

BLOCKS, SIZE = 2000, 64 << 10


def own_memory() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("RssAnon"))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the C library is another one there")
def test_holes_between_what_is_still_used_are_given_back() -> None:
    before = own_memory()
    blocks = [bytearray(b"x") * SIZE for _ in range(BLOCKS)]
    used = own_memory() - before
    assert used > 0.9 * BLOCKS * SIZE
    kept = blocks[::50]
    del blocks
    give_back()
    assert own_memory() - before < 0.2 * used
    assert all(len(block) == SIZE for block in kept)
