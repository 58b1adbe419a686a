"""A chat through a port-forward, which outlives the pod at its other end."""

import os
import signal
import socket
import time

import httpx
import pytest
from tests.unit.cli.chat_server import ChatServer, running

from slipway.cluster.kubectl import ClusterError
from slipway.cluster.port_forward import ForwardedTransport, PortForward
from slipway.talk.chat_client import ChatClient


def ask(client, message):
    answer = client.ask(message)
    return "".join(piece.text for piece in answer.pieces)


def is_open(port):
    try:
        socket.create_connection(("127.0.0.1", port), 5).close()
    except ConnectionRefusedError:
        return False
    return True


def leads_to(cluster, server):
    (cluster.root / "pod_port").write_text(str(httpx.URL(server.url).port))


@pytest.fixture
def client(cluster):
    def open_client(forward):
        transport = ForwardedTransport(forward, sleep=lambda seconds: None)
        return ChatClient(httpx.Client(base_url=f"http://127.0.0.1:{forward.port}/", transport=transport))

    return open_client


def test_a_chat_goes_on_with_the_pod_that_took_over(cluster, client):
    with running(ChatServer(pieces=("old",))) as old, running(ChatServer(pieces=("new",))) as new:
        leads_to(cluster, old)
        with PortForward(cluster.kubectl, "chat", 8000) as forward:
            talk = client(forward)
            assert ask(talk, "hi") == "old"
            leads_to(cluster, new)
            os.kill(int((cluster.root / "forward.pid").read_text()), signal.SIGKILL)
            assert ask(talk, "hi") == "new"


def test_the_forward_ends_with_the_chat(cluster, client):
    with running(ChatServer()) as server:
        leads_to(cluster, server)
        with PortForward(cluster.kubectl, "chat", 8000) as forward:
            assert forward.is_open
        deadline = time.monotonic() + 30
        while is_open(forward.port):
            assert time.monotonic() < deadline, "kubectl still has the port"
            time.sleep(0.1)


def test_what_keeps_it_from_opening_is_said(cluster):
    cluster.refuse("port-forward", "error: unable to forward port because pod is not running. Current status=Pending")
    with (
        pytest.raises(ClusterError, match=r"endpoint chat cannot be reached: .*Current status=Pending"),
        PortForward(cluster.kubectl, "chat", 8000),
    ):
        pass


@pytest.mark.parametrize(("endpoint", "service"), [("chat", "chat"), ("7b-chat", "se14c5e17-7b-chat")])
def test_it_leads_to_the_service_that_the_operator_made_for_the_endpoint(cluster, endpoint, service):
    with running(ChatServer()) as server:
        leads_to(cluster, server)
        with PortForward(cluster.kubectl, endpoint, 8000):
            assert f"service/{service}" in cluster.calls("port-forward")[0]
