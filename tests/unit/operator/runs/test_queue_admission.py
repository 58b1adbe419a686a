import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from tests.unit.operator.fake_cluster import FakeCluster
from tests.unit.operator.kube_objects import NAMESPACE, a_job

from slipway_operator.kube import kinds
from slipway_operator.kube.errors import Busy, Forbidden, Invalid, NotFound, Unreachable
from slipway_operator.runs.queue_admission import QueueAdmission

_RESERVED = {"type": "QuotaReserved", "status": "True"}


def a_queued_job(queue="team"):
    job = a_job(suspend=True)
    job["metadata"]["labels"] |= {"kueue.x-k8s.io/queue-name": queue} if queue else {}
    return job


def a_workload(job, *conditions, **status):
    return {
        "apiVersion": kinds.WORKLOAD.api_version,
        "kind": "Workload",
        "metadata": {
            "name": f"job-{job['metadata']['name']}",
            "namespace": NAMESPACE,
            "labels": {"kueue.x-k8s.io/job-uid": job["metadata"]["uid"]},
        },
        "spec": {},
        "status": {"conditions": list(conditions), **status},
    }


class Deaf(FakeCluster):
    """Answers a list with an error, or never."""

    error: Exception | None
    asked = 0

    async def list(self, kind, namespace=None, selector=None):
        self.asked += 1
        if self.error is None:
            await asyncio.Event().wait()
        raise self.error


def now():
    return datetime(2026, 1, 1, tzinfo=UTC)


def why(*workloads, queue="team"):
    cluster = FakeCluster()
    for workload in workloads:
        cluster.put(workload)
    return asyncio.run(QueueAdmission(cluster, now).why(a_queued_job(queue)))


def why_not(error):
    cluster = Deaf()
    cluster.error = error
    return asyncio.run(QueueAdmission(cluster, now, patience=0.01).why(a_queued_job()))


@pytest.mark.parametrize(
    ("conditions", "status", "reason", "words"),
    [
        (
            [{"type": "QuotaReserved", "status": "False", "reason": "Pending", "message": "insufficient unused quota"}],
            {},
            "Pending",
            "queue team: insufficient unused quota",
        ),
        ([], {}, "Waiting", "is there a LocalQueue team?"),
        (
            [_RESERVED],
            {"admissionChecks": [{"name": "ready", "state": "Ready"}, {"name": "nodes", "state": "Pending"}]},
            "AdmissionCheck",
            "waits for the admission check nodes: Pending",
        ),
        ([_RESERVED], {"admissionChecks": [{"name": "ready", "state": "Ready"}]}, "Waiting", "is about to start it"),
    ],
    ids=["no-quota", "not-looked-at", "admission-check", "admitted"],
)
def test_a_queue_is_quoted_as_far_as_it_has_spoken(conditions, status, reason, words):
    found = why(a_workload(a_job("other"), *conditions), a_workload(a_job(), *conditions, **status))
    assert (found.type, found.reason) == ("Queued", reason)
    assert words in found.message


def test_a_job_that_kueue_has_no_workload_of_asks_for_the_queue():
    assert "is there a LocalQueue team?" in why(a_workload(a_job("other"))).message


def test_a_cluster_without_kueue_is_told_apart_from_one_where_the_operator_may_not_look():
    missing = why_not(NotFound("the server could not find the requested resource"))
    assert missing.reason == "NoKueue"
    assert "this cluster has no Kueue" in missing.message
    assert "kueue.enabled" in why_not(Forbidden("workloads is forbidden")).message


def test_a_job_that_somebody_suspended_and_no_queue_has_names_the_field():
    found = why(queue=None)
    assert found.reason == "NoQueue"
    assert "name one in compute.queue" in found.message


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (Unreachable("HTTP 500: conversion webhook failed"), "conversion webhook failed"),
        (Busy("too many requests", 1.0), "too many requests"),
        (Invalid("the selector is not taken"), "the selector is not taken"),
        (None, "no answer within 0.01 s"),
    ],
)
def test_kueue_that_cannot_be_asked_is_told_of(error, words):
    found = why_not(error)
    assert (found.type, found.reason) == ("Queued", "QueueUnreachable")
    assert "queue team has not admitted it" in found.message
    assert words in found.message
    assert "kubectl get workloads" in found.message


def test_kueue_that_does_not_answer_is_asked_once_for_all_that_wait_in_a_namespace_and_again_later():
    cluster = Deaf()
    cluster.error = Unreachable("HTTP 500")
    time = now()
    queues = QueueAdmission(cluster, lambda: time)

    def ask():
        return asyncio.run(queues.why(a_queued_job())).reason

    assert {ask() for _ in range(100)} == {"QueueUnreachable"}
    assert cluster.asked == 1
    time += timedelta(seconds=30)
    cluster.error = NotFound("the server could not find the requested resource")
    assert ask() == "NoKueue"
    assert ask() == "NoKueue"
    assert cluster.asked == 3
