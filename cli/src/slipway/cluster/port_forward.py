"""A port of this machine that leads to an endpoint, and is opened again when the pod behind it was replaced."""

from __future__ import annotations

import re
import selectors
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Self

import httpx

from slipway.cluster.kubectl import ClusterError, Kubectl, error_of
from slipway_core.resources import labels

HOST = "127.0.0.1"
OPEN_SECONDS = 15.0
"""How long kubectl may take to open it."""
_TRIES = 4
_PAUSE = 1.0
"""Seconds between two tries: a rollout points the Service to its new pods in that time."""


class PortForward:
    """`kubectl port-forward` as a context manager; `port` stays the same when it is opened again."""

    def __init__(self, kubectl: Kubectl, endpoint: str, endpoint_port: int) -> None:
        self._kubectl, self._endpoint, self._endpoint_port = kubectl, endpoint, endpoint_port
        self._stream: AbstractContextManager[subprocess.Popen[bytes]] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0

    def __enter__(self) -> Self:
        self.port = _free_port()
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def is_open(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def open(self) -> None:
        """Opens it, anew when it is open. Raises ClusterError that says why it cannot be."""
        self.close()
        service, ports = labels.service(self._endpoint), f"{self.port}:{self._endpoint_port}"
        self._stream = self._kubectl.stream("port-forward", f"service/{service}", ports, "--address", HOST)
        self._process = self._stream.__enter__()
        assert self._process.stdout is not None
        if _says(self._process, rb"Forwarding from", OPEN_SECONDS):
            return
        said = ""
        if self._process.poll() is not None and self._process.stderr is not None:
            said = self._process.stderr.read().decode(errors="replace")
        self.close()
        why = str(error_of(said, self._kubectl)) if said else f"kubectl opened no port in {OPEN_SECONDS:g} s"
        raise ClusterError(f"endpoint {self._endpoint} cannot be reached: {why}")

    def close(self) -> None:
        stream, self._stream, self._process = self._stream, None, None
        if stream is not None:
            stream.__exit__(None, None, None)


def _says(process: subprocess.Popen[bytes], pattern: bytes, seconds: float) -> bool:
    """Returns whether the process prints a line like that in time."""
    assert process.stdout is not None
    deadline = time.monotonic() + seconds
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while (left := deadline - time.monotonic()) > 0:
            if not selector.select(left):
                return False
            line = process.stdout.readline()
            if not line:
                process.wait()
                return False
            if re.search(pattern, line):
                return True
    return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return probe.getsockname()[1]


class ForwardedTransport(httpx.BaseTransport):
    """Sends requests through a port-forward; one whose way broke before an answer began is sent once more.

    An answer that breaks off midway is the caller's to ask for again: half of it was seen.
    """

    def __init__(self, forward: PortForward, sleep: Callable[[float], None] = time.sleep) -> None:
        self._forward = forward
        self._sleep = sleep
        self._inner = httpx.HTTPTransport()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        for attempt in range(1, _TRIES + 1):
            try:
                if not self._forward.is_open:
                    self._reopen()
                return self._inner.handle_request(request)
            except (httpx.ConnectError, httpx.RemoteProtocolError, httpx.ReadError, ClusterError):
                if attempt == _TRIES:
                    raise
            # kubectl notices only now that its pod is gone, or not at all.
            self._forward.close()
            self._sleep(_PAUSE)
        raise AssertionError("unreachable: the last try returns or raises")

    def _reopen(self) -> None:
        self._inner.close()
        self._inner = httpx.HTTPTransport()
        self._forward.open()

    def close(self) -> None:
        self._inner.close()
