import asyncio
import json
from datetime import UTC, datetime

import pytest
from tests.unit.operator.cached import an_object

from slipway_core.resources.events import Event
from slipway_operator.kube import kinds
from slipway_operator.kube.errors import (
    AlreadyExists,
    Busy,
    Conflict,
    Expired,
    Forbidden,
    Invalid,
    NotFound,
    QuotaExceeded,
    Unreachable,
    of_response,
    reason_of,
)
from slipway_operator.kube.events import api_event
from slipway_operator.kube.kinds import CLAIM, JOB, NODE, TRAINING_RUN
from slipway_operator.kube.rate_limit import TokenBucket

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("kind", "parts", "path"),
    [
        (
            TRAINING_RUN,
            ("team", "demo", "status"),
            "/apis/slipway.dev/v1alpha1/namespaces/team/trainingruns/demo/status",
        ),
        (JOB, (None,), "/apis/batch/v1/jobs"),
        (CLAIM, ("team",), "/api/v1/namespaces/team/persistentvolumeclaims"),
        (NODE, ("ignored", "n"), "/api/v1/nodes/n"),
    ],
)
def test_paths(kind, parts, path):
    assert kind.path(*parts) == path


def test_a_kind_that_the_operator_does_not_know_is_named():
    with pytest.raises(ValueError, match="'Ingress'"):
        kinds.of({"kind": "Ingress"})


@pytest.mark.parametrize(
    ("status", "reason", "message", "error"),
    [
        (404, "NotFound", 'jobs.batch "a" not found', NotFound),
        (409, "AlreadyExists", 'jobs.batch "a" already exists', AlreadyExists),
        (409, "Conflict", "the object has been modified", Conflict),
        (410, "Expired", "The provided continue parameter is too old", Expired),
        (422, "Invalid", "spec.stages: Required value", Invalid),
        (400, "BadRequest", "json: cannot unmarshal", Invalid),
        (403, "Forbidden", "exceeded quota: pods, requested: pods=1, used: pods=1, limited: pods=1", QuotaExceeded),
        (403, "Forbidden", 'jobs.batch is forbidden: User "x" cannot create', Forbidden),
        (403, "Forbidden", "status unknown for quota: q, resources: pods", Busy),
        (429, "TooManyRequests", "Too many requests", Busy),
        (503, "ServiceUnavailable", "etcdserver: leader changed", Busy),
        (500, "InternalError", "an error on the server", Unreachable),
        (401, "Unauthorized", "Unauthorized", Unreachable),
    ],
)
def test_answers_become_errors_in_our_own_words(status, reason, message, error):
    found = of_response(status, {}, json.dumps({"kind": "Status", "reason": reason, "message": message}).encode())
    assert type(found) is error
    assert message in str(found)


@pytest.mark.parametrize(
    ("error", "said"),
    [(TimeoutError(), "TimeoutError"), (ConnectionRefusedError(111, "refused"), "[Errno 111] refused")],
)
def test_an_error_without_words_is_named_by_what_it_is(error, said):
    assert reason_of(error) == said


@pytest.mark.parametrize(
    ("headers", "body", "seconds"),
    [
        ({"Retry-After": "3"}, b"", 3.0),
        ({}, b'{"details": {"retryAfterSeconds": 5}}', 5.0),
        ({"Retry-After": "soon"}, b"", 1.0),
        ({}, b"upstream connect error", 1.0),
    ],
)
def test_a_busy_server_says_when_to_come_back(headers, body, seconds):
    found = of_response(429, headers, body)
    assert isinstance(found, Busy)
    assert found.retry_after == seconds


# ---------------------------------------------------------------------------------------------------------- Events


def an_event(message: str = "perplexity 12 is within 20", generation: int = 1):
    involved = an_object(TRAINING_RUN, "demo")
    involved["metadata"]["generation"] = generation
    return api_event(involved, Event("Normal", "Judged", message), NOW)


def test_a_repeated_pass_tells_an_event_under_the_same_name():
    assert an_event()["metadata"]["name"] == an_event()["metadata"]["name"]


def test_another_message_or_generation_is_another_event():
    found = {
        an_event()["metadata"]["name"],
        an_event("no")["metadata"]["name"],
        an_event(generation=2)["metadata"]["name"],
    }
    assert len(found) == 3


def test_an_event_says_whom_it_is_about_and_who_says_it():
    event = an_event()
    assert event["involvedObject"]["kind"] == "TrainingRun"
    assert event["involvedObject"]["uid"] == "uid-of-demo"
    assert event["reportingComponent"] == "slipway-operator"
    assert event["firstTimestamp"] == "2026-01-02T03:04:05Z"


def test_an_event_fits_whatever_it_says():
    assert len(an_event("word " * 1000)["message"]) == 1024


# -------------------------------------------------------------------------------------------------------- the limit


def test_the_limit_lets_a_burst_through_and_then_its_rate():
    async def scenario() -> list[float]:
        now, slept = [0.0], []

        async def sleep(seconds: float) -> None:
            slept.append(round(seconds, 3))

        bucket = TokenBucket(10, 2, lambda: now[0], sleep)
        for _ in range(4):
            await bucket.take()
        now[0] = 1.0
        await bucket.take()
        return slept

    assert asyncio.run(scenario()) == [0.1, 0.2]
