"""Ports for servers that are told one and bind it later."""

import random
import socket

_OURS = range(20_000, 30_000)
"""Below those from which kernels take ports for connections, and those of Kubernetes' NodePorts. One of the former any
connection of the machine may take before the server binds it, which with vLLM is half a minute later."""


def free_port() -> int:
    """Returns a port of 127.0.0.1 on which nobody listens."""
    while True:
        port = random.SystemRandom().choice(_OURS)  # Not by a seed: tests in other processes choose too.
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
