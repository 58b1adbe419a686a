"""Which pods' logs are shown, and in which order; and what following them lives through."""

import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest
from tests.unit.cli.evidence import UID, run_named

from slipway.cluster import logs
from slipway.cluster.kubectl import Unreachable
from slipway.exit_codes import BadInput
from slipway.target import LogRequest, check_step

RUNNING = {"running": {}}
WAITING = {"waiting": {"reason": "ContainerCreating"}}


def pod(name, step, attempt, index=0, state=RUNNING, restarts=0):
    noted = {"slipway.dev/step": step, "slipway.dev/attempt": str(attempt), logs.INDEX: str(index)}
    status = {"phase": "Running", "containerStatuses": [{"name": "trainer", "state": state, "restartCount": restarts}]}
    return {"metadata": {"name": name, "labels": noted}, "status": status}


PODS = [
    pod("d", "pretrain", 2, 1),
    pod("c", "pretrain", 2, 0),
    pod("b", "pretrain", 1),
    pod("a", "prepare", 1),
    {"metadata": {"name": "other"}},
]


def titles(**wanted):
    return [source.title for source in logs.of_run(run_named(), PODS, LogRequest("tang", **wanted))]


def test_the_newest_attempts_come_in_the_order_of_steps_and_pods():
    assert titles() == ["prepare, attempt 1", "pretrain, attempt 2, pod 0", "pretrain, attempt 2, pod 1"]
    assert titles(step="pretrain", attempt=1) == ["pretrain, attempt 1"]
    assert titles(step="sft") == []


def test_a_pod_whose_container_has_not_run_has_no_log_yet():
    sources = logs.of_run(run_named(), [pod("a", "prepare", 1, state=WAITING)], LogRequest("tang"))
    assert [source.started for source in sources] == [False]


def test_versions_of_an_endpoint_come_in_their_order_as_numbers():
    pods = [{"metadata": {"name": f"chat-{n}", "labels": {"slipway.dev/version": str(n)}}} for n in (10, 9)]
    assert [source.pod for source in logs.of_endpoint(pods)] == ["chat-9", "chat-10"]


def test_a_step_that_the_run_has_not_is_refused_with_those_it_has():
    with pytest.raises(BadInput, match="it has prepare, pretrain, sft, export, evaluate and serve"):
        check_step(LogRequest("tang", "x"), run_named())


def line(second, words):
    return f"2026-01-02T03:04:{second:02}.000000000Z {words}\n".encode()


@dataclass
class Stream:
    """A `kubectl logs -f` that ends: with its container, or because its connection broke."""

    stdout: list[bytes]
    broken: bool = False

    def wait(self):
        return 1 if self.broken else 0

    def terminate(self):
        pass


@dataclass
class Pods:
    """A cluster at which one looks again and again; the run is at work until the last look."""

    looks: list[object]
    """Lists of pods, or what goes wrong instead."""
    streams: list[Stream]
    asked: list[tuple[str, ...]] = field(default_factory=list)
    looked: int = 0

    def at_work(self):
        """Begins a look; which pods there are is asked after it."""
        self.looked += 1
        return self.looked < len(self.looks)

    def list(self, kind, *, labels):
        seen = self.looks[min(self.looked, len(self.looks)) - 1]
        if isinstance(seen, Exception):
            raise seen
        return seen

    def get(self, kind, name):
        return next(pod for pod in self.list("pods", labels={}) if pod["metadata"]["name"] == name)

    @contextmanager
    def stream(self, *arguments):
        self.asked.append(arguments)
        yield self.streams.pop(0)


def followed(pods, write=None):
    """Returns the lines that are shown until the run rests."""
    shown = []
    copy = logs.Copy(pods, write or shown.append, sleep=lambda seconds: time.sleep(0.02))
    copy.run(run_named(), LogRequest("tang", follow=True), pods.at_work)
    return [text.partition(" | ")[2].rstrip("\n") for text in shown]


A = pod("a", "prepare", 1)


def test_a_reader_that_leaves_ends_it():
    def gone(text):
        raise BrokenPipeError

    pods = Pods([[A]] * 100, [Stream([line(1, "one"), line(2, "two")])])
    with pytest.raises(BrokenPipeError):
        followed(pods, gone)
    assert pods.looked < 100


def test_a_reader_that_leaves_hears_no_complaint(cluster):
    run = run_named()
    talking = {**A, "metadata": {"name": "a", "labels": {**A["metadata"]["labels"], "slipway.dev/run-uid": UID}}}
    cluster.save(**{"trainingrun/tang": run.to_document(), "pod/a": talking})
    command = [sys.executable, "-m", "slipway", "logs", "-f", "tang", "-n", "team"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as following:
        assert following.stdout.readline() == b"prepare-1 | line 0\n"
        following.stdout.close()
        assert following.wait(20) == 141
        assert following.stderr.read() == b""


def test_a_line_whose_stamp_goes_back_is_shown_too():
    stream = Stream([line(2, "one"), line(1, "two"), line(2, "three")])
    assert followed(Pods([[A], [A]], [stream])) == ["one", "two", "three"]


def test_a_connection_that_breaks_is_taken_up_without_a_line_twice_or_too_few():
    streams = [
        Stream([line(1, "one"), line(2, "two"), line(3, "half of")[:-4]], broken=True),
        Stream([line(2, "two"), line(3, "half of a line"), line(2, "stepped back")]),
    ]
    pods = Pods([[A], [A]], streams)
    assert followed(pods) == ["one", "two", "half of a line", "stepped back"]
    assert "--since-time=2026-01-02T03:04:02.000000000Z" in pods.asked[1]


def test_a_connection_that_breaks_within_a_stamp_does_not_ask_for_that():
    streams = [Stream([line(1, "one"), line(2, "two")[:9]], broken=True), Stream([line(1, "one"), line(2, "two")])]
    assert followed(Pods([[A], [A]], streams)) == ["one", "two"]


def test_a_container_that_started_again_is_followed_again():
    again = pod("a", "prepare", 1, restarts=1)
    streams = [Stream([line(1, "first")]), Stream([line(5, "second")])]
    assert followed(Pods([[A], [A], [again], [again]], streams)) == ["first", "second"]


def test_a_broken_connection_to_a_container_that_started_again_is_left_to_the_next_look():
    again = pod("a", "prepare", 1, restarts=1)
    streams = [Stream([line(1, "first")], broken=True), Stream([line(5, "second")])]
    pods = Pods([[A], [again], [again]], streams)
    pods.get = lambda kind, name: again
    assert followed(pods) == ["first", "second"]


def test_a_cluster_that_is_away_for_a_moment_is_asked_again(capsys):
    streams = [Stream([line(1, "one")]), Stream([line(1, "one")])]
    pods = Pods([[A], Unreachable("it is away"), [A, pod("b", "pretrain", 1)]], streams)
    assert followed(pods) == ["one", "one"]
    assert "it is away; still trying" in capsys.readouterr().err
