"""A port that a test chose is still free when its server binds it, however many connections there are meanwhile."""

import socket
from pathlib import Path

import pytest
from tests.ports import _OURS, free_port

LOCAL_PORTS = Path("/proc/sys/net/ipv4/ip_local_port_range")


def test_a_chosen_port_can_be_bound() -> None:
    with socket.create_server(("127.0.0.1", free_port())) as server:
        assert server.getsockname()[1] in _OURS


def test_one_on_which_somebody_listens_is_not_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", free_port())) as server:
        taken = server.getsockname()[1]
        monkeypatch.setattr("tests.ports._OURS", (taken,))
        choices = iter([taken, taken, taken + 1])
        monkeypatch.setattr("random.SystemRandom.choice", lambda *_: next(choices))
        assert free_port() == taken + 1


@pytest.mark.skipif(not LOCAL_PORTS.exists(), reason="Linux says it there")
def test_connections_never_get_one_of_them() -> None:
    assert int(LOCAL_PORTS.read_text().split()[0]) >= _OURS.stop
