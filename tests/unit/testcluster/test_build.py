"""What builds the programs of the test cluster."""

from __future__ import annotations

import fcntl
import os
import subprocess
from pathlib import Path

BUILD = Path(__file__).parents[3] / "tools/testcluster/build.sh"


def test_the_node_that_holds_its_lock_can_build_its_programs(tmp_path: Path) -> None:
    # As on a machine that has none of them: `node.sh up` holds its lock while it builds. This Go can build nothing.
    go = tmp_path / "go"
    go.write_text('#!/bin/sh\n[ "$1" = version ] && echo go version go1.26.0 linux/amd64\n')
    go.chmod(0o755)
    cache = tmp_path / "cache/testcluster"
    cache.mkdir(parents=True)
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLIPWAY_CACHE": str(cache.parent)}
    with (cache / ".lock-node").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        built = subprocess.run([BUILD, "node"], env=environment, capture_output=True, text=True, timeout=60)
    assert built.returncode == 1
    assert "node could not be built" in built.stderr
