"""What a judge's server is asked before anything is trained, against real servers."""

from __future__ import annotations

import contextlib
import socket
import threading
import time

import pytest
from tests.unit.trainer import judge_server
from tests.unit.trainer.judge_server import Response, listed, refusing, replies

from slipway_core.resources.judge import Judge
from slipway_trainer.judge import inquiry
from slipway_trainer.step.errors import BadConfig

KEY = "sk-very-secret"


def asked(server: judge_server.Server, key: str | None = KEY, **fields: object) -> str | None:
    return inquiry.warning(server.judge(credentials="judge-key" if key else None, **fields), key)


def test_a_server_that_takes_the_key_and_has_the_model_leaves_nothing_to_say() -> None:
    with judge_server.serving() as server:
        assert asked(server) is None
    assert server.inquiries == [
        ("GET /v1/models", f"Bearer {KEY}"),
        ("POST /v1/chat/completions", f"Bearer {KEY}"),
    ]
    assert not server.asked


@pytest.mark.parametrize("status", [401, 403])
def test_a_key_that_is_refused_is_told_with_the_field_and_what_to_do(status: int) -> None:
    said = lambda: Response(f'{{"error": "no such key: {KEY}"}}'.encode(), status=status)  # noqa: E731
    with judge_server.serving(models=said, empty=said) as server, pytest.raises(BadConfig) as caught:
        asked(server)
    words = str(caught.value)
    assert words.startswith(f"evaluation.judge.credentials: {server.url} refuses the key (it answered {status}: ")
    assert words.endswith(
        "Give JUDGE_API_KEY one that may ask there, in the environment; on a cluster in the Secret judge-key"
    )
    assert KEY not in words


def test_a_server_that_asks_for_a_key_where_none_is_sent_is_refused() -> None:
    with judge_server.serving(models=refusing(), empty=refusing()) as server, pytest.raises(BadConfig) as caught:
        asked(server, None)
    assert f"{server.url} asks for a key" in str(caught.value)
    assert "evaluation.judge.credentials" in str(caught.value)
    assert server.inquiries[0] == ("GET /v1/models", None)


def test_a_list_that_everybody_may_see_does_not_hide_that_the_key_is_refused() -> None:
    with judge_server.serving(empty=refusing()) as server, pytest.raises(BadConfig, match="refuses the key"):
        asked(server)


def test_a_key_that_may_ask_and_not_see_the_list_will_do() -> None:
    with judge_server.serving(models=refusing(403)) as server:
        assert asked(server) is None


def test_a_server_that_knows_neither_question_is_believed_when_it_refuses_the_key() -> None:
    with (
        judge_server.serving(models=refusing(), empty=lambda: Response(b"", status=404)) as server,
        pytest.raises(BadConfig, match="refuses the key"),
    ):
        asked(server)


@pytest.mark.parametrize(
    ("models", "words"),
    [
        (Response(b"not found", status=404), "answered 404: not found to the question for its models"),
        (Response(b"<html>hello</html>", kind="text/html"), "answered 200: <html>hello</html> to the question"),
        (Response(b"", status=500), "answered 500 to the question"),
        (Response(b"[" * 100_000), "to the question for its models"),
        (Response(b"", status=302, headers={"location": "http://elsewhere/"}), "answered 302"),
        (listed("rule", "other"), "does not list rules: it has rule"),
        (listed(), "does not list rules: it has none"),
    ],
)
def test_what_may_be_mended_by_then_is_a_warning(models: Response, words: str) -> None:
    with judge_server.serving(models=lambda: models) as server:
        said = asked(server)
    assert said is not None
    assert said.startswith("evaluation.judge.")
    assert words in said


def test_a_server_that_is_not_there_is_a_warning() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/v1"
        said = inquiry.warning(Judge(url=url, model="m", criteria="c"), None)
    assert said is not None
    assert said.startswith(f"evaluation.judge.url: {url} does not answer: ")
    assert "once the model is trained" in said


@pytest.mark.parametrize("slow", ["all at once", "byte by byte"])
def test_a_server_that_is_slow_is_not_waited_for(slow: str) -> None:
    seconds = 60.0
    with judge_server.serving(models=lambda: Response(b"", seconds=seconds)) as server:
        if slow == "byte by byte":
            server.models = lambda: Response(b"x" * 600, pause=0.1)
        started = time.monotonic()
        said = inquiry.warning(server.judge(), None, seconds=0.5)
    assert time.monotonic() - started < 30
    assert said is not None
    assert "does not answer" in said


def test_a_server_that_sends_its_headers_byte_by_byte_is_not_waited_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def drip() -> None:
            connection, _ = listening.accept()
            with connection, contextlib.suppress(OSError):
                connection.sendall(b"HTTP/1.1 200 OK\r\n")
                for _ in range(600):
                    connection.sendall(b"x-more: of it\r\n")
                    time.sleep(0.1)

        threading.Thread(target=drip, daemon=True).start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
        started = time.monotonic()
        said = inquiry.warning(Judge(url=url, model="m", criteria="c"), None, seconds=0.5)
    assert time.monotonic() - started < 30
    assert said is not None
    assert "does not answer in time" in said


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ALL_PROXY", "socks5://127.0.0.1:1080"),
        ("HTTP_PROXY", "ftp://ada:hunter2@127.0.0.1"),
        ("SSL_CERT_FILE", "/nowhere/ca.pem"),
    ],
)
def test_an_environment_that_lets_nobody_ask_is_refused_before_anything_is_trained(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(BadConfig) as caught:
        inquiry.warning(Judge(url="https://judge.example/v1", model="m", criteria="c"), None)
    words = str(caught.value)
    assert words.startswith("evaluation.judge.url: https://judge.example/v1 cannot be asked with the proxy and the")
    assert name in words
    assert "hunter2" not in words


def test_an_answer_to_an_empty_question_costs_nothing_more() -> None:
    with judge_server.serving(empty=lambda: replies("Tie")) as server:
        assert asked(server) is None
