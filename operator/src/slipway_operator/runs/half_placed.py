"""Whether an attempt holds places for some of its pods while others find none, and who else does. Pure.

A pod without a node counts, and one that was never made: a quota may have room for half of a run as well. What a queue
admits is the queue's to see to.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

from slipway_core.lifecycle.observed import HalfPlaced
from slipway_core.resources.conditions import parse_timestamp
from slipway_operator.common import failure_class
from slipway_operator.kube.manifest import Manifest, at, items, labels
from slipway_operator.manifests.run.step_job import QUEUE_LABEL

_ENDS = ("failed", "succeeded", "terminating")
"""Counts of a Job's status: where one of them is not 0, its pods are on their way to their end."""


class Age(NamedTuple):
    """By which of two runs is older."""

    created: str
    uid: str


def half_placed(job: Manifest | None, pods: Iterable[Manifest]) -> HalfPlaced | None:
    """Returns since when an attempt has waited for the rest of its places; None where it has all of them, or none.

    Args:
        job: of the attempt.
        pods: of that Job.
    """
    wanted = int(at(job, "spec").get("completions") or 1)
    if job is None or wanted < 2 or QUEUE_LABEL in labels(job) or at(job, "spec").get("suspend"):
        return None
    pods = list(pods)
    ends = any(at(job, "status").get(count) for count in _ENDS) or "deletionTimestamp" in job["metadata"]
    if ends or any(failure_class.has_ended(pod) or "deletionTimestamp" in pod["metadata"] for pod in pods):
        return None
    placed = [moment for pod in pods if (moment := _placed_at(pod)) is not None]
    if not 0 < len(placed) < wanted:
        return None
    return HalfPlaced(min(placed), len(placed), wanted)


def has_elder(own: Age, others: Iterable[tuple[Age, Manifest, Iterable[Manifest]]]) -> bool:
    """Whether one of other runs, each with the Job of an attempt and its pods, is older and waits in the same way."""
    return any(age < own and half_placed(job, pods) is not None for age, job, pods in others)


def _placed_at(pod: Manifest) -> datetime | None:
    """When a pod got its node; None while it has none."""
    if not at(pod, "spec").get("nodeName"):
        return None
    for condition in items(pod, "status", "conditions"):
        since = condition.get("lastTransitionTime")
        if since and (condition.get("type"), condition.get("status")) == ("PodScheduled", "True"):
            return parse_timestamp(since)
    return parse_timestamp(pod["metadata"]["creationTimestamp"])
