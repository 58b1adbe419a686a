import os
import re
import signal
import socket
import threading
import time

import pytest
from tests.http_server import QuietHandler, served
from tests.unit.fetching.requesters import FIELD, OF_A_FIELD

from slipway_core.resources import uris
from slipway_fetching import object_store
from slipway_fetching.errors import FetchError, Misconfigured, Unavailable
from slipway_fetching.object_store import ObjectStore
from slipway_fetching.stored_object import StoredObject


class Stopped(Exception):
    pass


@pytest.fixture(autouse=True)
def no_keys(monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL", "GOOGLE_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(object_store, "_MOST_RETRIES", 1)


@pytest.fixture
def answer(monkeypatch):
    """Sets what the store answers to everything."""
    given = {"status": 200, "body": b""}

    class Handler(QuietHandler):
        def do_GET(self):
            self.send_response(given["status"])
            self.send_header("Content-Length", str(len(given["body"])))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(given["body"])

        do_HEAD = do_GET

    with served(Handler) as address:
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        yield lambda status, body=b"": given.update(status=status, body=body)


def failure(uri: str) -> FetchError:
    with pytest.raises(FetchError) as raised:
        ObjectStore(uris.parse(uri), OF_A_FIELD).find()
    assert str(raised.value).startswith(f"{FIELD}: {uri}: ")
    assert "Debug source" not in str(raised.value)
    return raised.value


@pytest.mark.parametrize(
    ("status", "body", "error", "message"),
    [
        (
            403,
            b"",
            Misconfigured,
            r"may not be read with these credentials.*Secret.* in stages\[0\].*\.cred",
        ),
        (401, b"", Misconfigured, "may not be read with these credentials"),
        (404, b"<Error><Code>NoSuchBucket</Code></Error>", Misconfigured, "there is no such bucket, bucket"),
        (404, b"page not found", Misconfigured, "no such bucket.*AWS_ENDPOINT_URL"),
        (301, b"", Misconfigured, "another region.*AWS_REGION"),
        (400, b"", Misconfigured, "the store refuses it"),
        (503, b"", Unavailable, "does not answer.*503"),
        (429, b"", Unavailable, "does not answer.*429"),
    ],
)
def test_what_another_attempt_would_meet_again_is_bad_input_and_the_rest_is_not(answer, status, body, error, message):
    answer(status, body)
    found = failure("s3://bucket/data.jsonl")
    assert type(found) is error
    assert re.search(message, str(found)), found


def test_a_store_that_nobody_answers_for_is_tried_again(monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    found = failure("s3://bucket/data.jsonl")
    assert isinstance(found, Unavailable)


@pytest.mark.parametrize("what", ["find", "download"])
def test_a_stop_does_not_wait_for_a_store_that_is_silent(monkeypatch, tmp_path, what):
    def stop(*_):
        raise Stopped

    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        store = ObjectStore(uris.parse("s3://bucket/a.jsonl"), OF_A_FIELD)
        found = StoredObject("a.jsonl", 64 << 20, '"x"', "x")
        previous, started = signal.signal(signal.SIGTERM, stop), time.monotonic()
        threading.Timer(0.5, lambda: os.kill(os.getpid(), signal.SIGTERM)).start()
        try:
            with pytest.raises(Stopped):
                store.find() if what == "find" else list(store._blocks(found, 0))
        finally:
            signal.signal(signal.SIGTERM, previous)
        assert time.monotonic() - started < 10


@pytest.mark.parametrize("endpoint", ["store:9000", "http://", "http://a b"])
def test_an_endpoint_that_is_no_address_is_bad_input(monkeypatch, endpoint):
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    assert "is no http:// or https:// address" in failure_message_of_setup("s3://bucket/a.jsonl")


def test_keys_that_cannot_be_read_are_bad_input(monkeypatch):
    monkeypatch.setenv("GOOGLE_SERVICE_ACCOUNT_KEY", "{nonsense")
    assert "cannot be set up" in failure_message_of_setup("gs://bucket/a.jsonl")


def failure_message_of_setup(uri: str) -> str:
    with pytest.raises(Misconfigured) as raised:
        ObjectStore(uris.parse(uri), OF_A_FIELD).find()
    return str(raised.value)


@pytest.mark.parametrize(
    "said",
    [
        "Generic S3 error: Error performing PUT http://169.254.169.254/latest/api/token in 1s - HTTP error",
        "Generic GCS error: Error performing GET http://metadata.google.internal/x in 1s",
    ],
)
def test_no_credentials_is_said_as_such(said):
    found = ObjectStore(uris.parse("s3://bucket/data.jsonl"), OF_A_FIELD)._in_our_words(said)
    assert isinstance(found, Misconfigured)
    assert "there are no credentials" in str(found)


@pytest.mark.parametrize(
    ("key", "pattern", "expected"),
    [
        ("a/b.jsonl", "a/*.jsonl", True),
        ("a/.b.jsonl", "a/*.jsonl", False),
        ("a/b/c.jsonl", "a/*.jsonl", False),
        ("a/b/c.jsonl", "a/**/*.jsonl", True),
        ("a/c.jsonl", "a/**/*.jsonl", True),
        ("a/.git/c.jsonl", "a/**/*.jsonl", False),
        ("a/b1.jsonl", "a/b[0-9].jsonl", True),
        ("a/b.txt", "a/*.jsonl", False),
    ],
)
def test_a_glob_names_keys_as_it_names_files(key, pattern, expected):
    assert object_store.matches(key, pattern) is expected
