import os
import signal
import threading
import time

import pytest

from slipway_fetching import blocking_calls
from slipway_fetching.blocking_calls import together


class Stopped(Exception):
    pass


@pytest.fixture
def stopping():
    """SIGTERM raises Stopped."""

    def stop(*_):
        raise Stopped

    previous = signal.signal(signal.SIGTERM, stop)
    yield
    signal.signal(signal.SIGTERM, previous)


def sleeping(seconds: float, answer: str):
    def call():
        time.sleep(seconds)
        return answer

    return call


def test_calls_are_made_at_the_same_time_and_answer_in_order():
    meet = threading.Barrier(3, timeout=30)
    assert together([lambda n=n: (meet.wait(), n)[1] for n in range(3)]) == [0, 1, 2]


def test_an_error_comes_when_all_have_ended_so_that_none_is_left_for_the_end_of_the_process():
    ended, threads = list[str](), threading.active_count()

    def fails():
        raise ValueError("bad")

    with pytest.raises(ValueError, match="bad"):
        together([fails, lambda: ended.append(sleeping(0.3, "late")())])
    assert ended == ["late"]
    assert threading.active_count() == threads


def test_a_stop_waits_for_a_call_that_is_about_to_end(stopping):
    ended = list[str]()
    threading.Timer(0.2, lambda: os.kill(os.getpid(), signal.SIGTERM)).start()
    with pytest.raises(Stopped):
        together([lambda: ended.append(sleeping(0.7, "under way")())])
    assert ended == ["under way"]


def test_a_stop_does_not_wait_for_one_that_is_not(stopping, monkeypatch):
    monkeypatch.setattr(blocking_calls, "PATIENCE", 0.2)
    silent, started = threading.Event(), time.monotonic()
    threading.Timer(0.2, lambda: os.kill(os.getpid(), signal.SIGTERM)).start()
    with pytest.raises(Stopped):
        together([lambda: silent.wait(60)])
    assert time.monotonic() - started < 20
    silent.set()
