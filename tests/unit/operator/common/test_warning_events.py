"""Warnings are listed for a namespace at once, however many of its pods are silent."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from slipway_operator.common.warning_events import WarningEvents
from slipway_operator.kube.errors import Forbidden, Unreachable


class Server:
    def __init__(self):
        self.now = datetime(2026, 1, 1, tzinfo=UTC)
        self.events = {}
        self.lists = []
        self.fields = {}

    async def warnings(self, namespace):
        self.lists.append(namespace)
        await asyncio.sleep(0)
        return [{"involvedObject": {"uid": uid}, "message": said, **self.fields} for uid, said in self.events.items()]


def about(server, *asked, told=None):
    told = told or WarningEvents(server, lambda: server.now)

    async def ask():
        named = [told._about({"metadata": {"namespace": space, "uid": uid}}) for space, uid in asked]
        return [[event["message"] for event in found] for found, _ in await asyncio.gather(*named)]

    return asyncio.run(ask())


def test_all_silent_objects_of_a_namespace_share_one_list():
    server = Server()
    server.events = {"a": "no claim", "b": "no quota"}
    assert about(server, ("team", "a"), ("team", "b"), ("team", "c")) == [["no claim"], ["no quota"], []]
    assert server.lists == ["team"]


def test_a_list_is_as_good_as_new_for_ten_seconds():
    server = Server()
    told = WarningEvents(server, lambda: server.now)
    about(server, ("team", "a"), told=told)
    server.events = {"a": "no claim"}
    server.now += timedelta(seconds=9)
    assert about(server, ("team", "a"), told=told) == [[]]
    server.now += timedelta(seconds=1)
    assert about(server, ("team", "a"), told=told) == [["no claim"]]


def test_what_was_listed_of_a_namespace_is_forgotten_when_nobody_asks():
    server = Server()
    told = WarningEvents(server, lambda: server.now)
    about(server, ("team", "a"), told=told)
    server.now += timedelta(minutes=5)
    about(server, ("other", "a"), told=told)
    assert set(told._told) == {"other"}


@pytest.mark.parametrize(
    ("reason", "first", "last", "counts"),
    [
        ("FailedMount", 1, 1, True),
        # The kubelet says it again about every 2 minutes, and once it has said it 25 times about every 5.
        ("FailedMount", 20, 6, True),
        # A cache that was not filled yet, minutes ago: the image is being pulled since.
        ("FailedMount", 5, 4, False),
        ("FailedAttachVolume", 30, 9, False),
        # Nothing else has happened to a Job that has no pod yet.
        ("FailedCreate", 50, 50, True),
    ],
)
def test_a_mount_that_failed_a_while_ago_is_over(reason, first, last, counts):
    server = Server()
    server.events = {"a": "no claim"}
    at = [(server.now - timedelta(minutes=ago)).strftime("%Y-%m-%dT%H:%M:%SZ") for ago in (first, last)]
    server.fields = {"reason": reason, "firstTimestamp": at[0], "lastTimestamp": at[1]}
    assert about(server, ("team", "a")) == [["no claim"] if counts else []]


def test_an_event_is_as_old_as_the_last_of_its_series():
    server = Server()
    server.events = {"a": "no claim"}
    server.fields = {
        "reason": "FailedMount",
        "eventTime": "2025-12-31T23:50:00.000000Z",
        "series": {"lastObservedTime": "2025-12-31T23:59:00.000000Z"},
    }
    assert about(server, ("team", "a")) == [["no claim"]]


class Deaf(Server):
    def __init__(self, error=None):
        super().__init__()
        self.error = error

    async def warnings(self, namespace):
        self.lists.append(namespace)
        if self.error is None:
            await asyncio.Event().wait()
        raise self.error


POD = {"kind": "Pod", "metadata": {"namespace": "team", "name": "p", "uid": "a"}}


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (Unreachable("HTTP 500: the store of Events is away"), "the store of Events is away"),
        (Forbidden("events is forbidden"), "events is forbidden"),
        (None, "no answer within 0.01 s"),
    ],
)
def test_events_that_cannot_be_read_are_told_of_and_keep_no_pass_from_its_end(error, words):
    server = Deaf(error)
    told = WarningEvents(server, lambda: server.now, patience=0.01)
    (blocker,) = asyncio.run(told.blockers(POD))
    assert (blocker.type, blocker.reason, blocker.warns) == ("CauseUnknown", "EventsUnreadable", False)
    assert blocker.message.startswith("the Pod p does not start, and the Events that say why cannot be read: ")
    assert words in blocker.message
    server.now += timedelta(seconds=29)
    asyncio.run(told.blockers(POD))
    assert len(server.lists) == 1, "who does not answer is not asked all the time"
    server.now += timedelta(seconds=1)
    server.warnings = Server.warnings.__get__(server)
    assert asyncio.run(told.blockers(POD)) == ()
