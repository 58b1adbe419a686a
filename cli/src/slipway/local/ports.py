"""TCP ports of this machine: binding one, and naming who has it when somebody else does."""

from __future__ import annotations

import errno
import random
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from slipway.local.state import StateError

LOOPBACK = "127.0.0.1"
EVERYWHERE = "0.0.0.0"
_DAEMONS = ("endpoints.daemon", "endpoint_daemon")
"""Parts of the module that the process of an endpoint runs: one of an earlier release goes on after an upgrade."""
_LISTEN = "0A"
# Below the range from which kernels take the ports of outgoing connections, so that none of those gets in between.
_PRIVATE = range(20000, 32000)


@dataclass(frozen=True)
class Holder:
    """The process that has a port, as far as it can be found: processes of other users cannot be looked into."""

    pid: int | None = None
    command: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self.pid is None:
            return "another process"
        if any(daemon in word for word in self.command for daemon in _DAEMONS):
            state, name = (_option(self.command, option) for option in ("--state", "--name"))
            return f"endpoint {name} of {state} (process {self.pid}); `slipway stop {name}` frees it"
        return f"process {self.pid} ({' '.join(' '.join(self.command).split())[:120] or 'no command line'})"


class PortInUse(StateError):
    def __init__(self, port: int, holder: Holder) -> None:
        super().__init__(
            f"port {port} is in use by {holder}; stop that, or choose another port with "
            f"--set serving.template.port={port + 1}"
        )
        self.port, self.holder = port, holder


def bind(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """Returns a listening socket. `shared` lets it stand beside one of this process that shares the port too.

    Raises PortInUse with the holder, and StateError for a port that may not be opened.
    """
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            share(listener)
        listener.bind((host, port))
        listener.listen(1024)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise PortInUse(port, find_holder(port)) from None
        advice = "ports below 1024 need root" if error.errno == errno.EACCES else error.strerror
        raise StateError(
            f"port {port} cannot be opened on {host}: {advice}; choose another with --set serving.template.port=8000"
        ) from None
    return listener


def share(listener: socket.socket) -> None:
    """Lets a socket that shares too be bound to the same port."""
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)


def port_in_use(port: int) -> Holder | None:
    """Returns who has the port, None when it is free. Raises StateError for a port that may not be opened."""
    try:
        bind(EVERYWHERE, port).close()
    except PortInUse as error:
        return error.holder
    return None


def private_port() -> int:
    """Returns a free port of the loopback address for a server that binds it in a moment."""
    for port in random.sample(_PRIVATE, 200):
        try:
            bind(LOOPBACK, port).close()
        except StateError:
            continue
        return port
    raise StateError(f"no port between {_PRIVATE.start} and {_PRIVATE.stop} is free; stop what uses them")


def find_holder(port: int) -> Holder:
    """Returns the process that listens on the port, as /proc shows it."""
    inodes = set(_listening(port))
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and inodes & set(_sockets(folder)):
            return Holder(int(folder.name), _command(folder))
    return Holder()


def _listening(port: int) -> Iterator[str]:
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            rows = Path(table).read_text().splitlines()[1:]
        except OSError:
            continue
        for row in rows:
            fields = row.split()
            if fields[3] == _LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                yield f"socket:[{fields[9]}]"


def _sockets(process: Path) -> Iterator[str]:
    try:
        for entry in (process / "fd").iterdir():
            yield str(entry.readlink())
    except OSError:
        return  # It ended, or belongs to somebody else.


def _command(process: Path) -> tuple[str, ...]:
    try:
        words = (process / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return ()
    return tuple(word.decode(errors="replace") for word in words if word)


def _option(command: tuple[str, ...], name: str) -> str:
    found = [value for option, value in pairwise(command) if option == name]
    return found[0] if found else "?"
