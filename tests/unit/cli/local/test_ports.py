import os
import socket
from pathlib import Path

import pytest

from slipway.local import ports
from slipway.local.ports import Holder, PortInUse
from slipway.local.state import StateError


@pytest.fixture
def taken():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def test_a_free_port_has_no_holder():
    assert ports.port_in_use(ports.private_port()) is None


def test_a_port_in_use_names_its_holder_and_the_fix(taken):
    assert ports.port_in_use(taken).pid == os.getpid()
    with pytest.raises(PortInUse) as caught:
        ports.bind("0.0.0.0", taken)
    assert f"port {taken} is in use by process {os.getpid()}" in str(caught.value)
    assert f"--set serving.template.port={taken + 1}" in str(caught.value)


@pytest.mark.parametrize("address", ["::", "0.0.0.0"])
def test_a_holder_on_every_address_is_found_too(address):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        listener = socket.create_server((address, 0), family=family, dualstack_ipv6=":" in address)
    except OSError:
        pytest.skip(f"this machine has no {address}")
    with listener:
        assert ports.port_in_use(listener.getsockname()[1]).pid == os.getpid()


def test_a_connection_that_has_ended_does_not_hold_the_port():
    port = ports.private_port()
    with ports.bind("127.0.0.1", port) as listener, socket.create_connection(("127.0.0.1", port)) as client:
        listener.setblocking(True)
        accepted, _ = listener.accept()
        accepted.close()  # The side that closes first waits in TIME_WAIT.
        assert client.recv(1) == b""
    assert ports.port_in_use(port) is None


def test_an_endpoint_that_holds_the_port_says_how_it_is_stopped():
    command = ("python", "-m", "slipway.local.endpoints.daemon", "--state", "/home/me/.slipway", "--name", "chat")
    said = str(Holder(7, command))
    assert said == "endpoint chat of /home/me/.slipway (process 7); `slipway stop chat` frees it"


def test_a_holder_that_cannot_be_looked_into_is_another_process():
    assert str(Holder()) == "another process"


@pytest.mark.skipif(os.getuid() == 0, reason="root may open every port")
def test_a_port_that_only_root_may_open_says_so():
    if int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text()) <= 80:
        pytest.skip("on this machine everybody may open port 80")
    with pytest.raises(StateError, match=r"port 80 cannot be opened.*root.*--set serving\.template\.port=8000"):
        ports.port_in_use(80)


def test_private_ports_are_not_those_of_outgoing_connections():
    low, _ = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    port = ports.private_port()
    assert port < low or low < 20000
