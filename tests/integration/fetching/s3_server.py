"""A real S3 server for a test: gofakes3, in memory, on a free port of 127.0.0.1."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.ports import free_port
from tests.programs import build, program

Put = Callable[[str, bytes], None]
"""Writes an object, by its key."""


@contextmanager
def s3_server(bucket: str) -> Iterator[dict[str, str]]:
    """Yields the environment in which S3 is this server, with one empty bucket."""
    port = free_port()
    build("gofakes3")
    command = [program("gofakes3"), "-backend", "memory", "-host", f"127.0.0.1:{port}", "-initialbucket", bucket]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_for(port)
        yield {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_REGION": "us-east-1",
        }
    finally:
        process.terminate()
        process.wait(10)


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + 10
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
