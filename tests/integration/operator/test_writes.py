"""Invariant F by the API server's own account: a pass writes one status at most, and nothing when nothing changed."""

import re
import time
from collections import Counter
from itertools import pairwise

import httpx
import pytest
from tests.integration.api_client import eventually
from tests.integration.operator.audit import by_operator, settled, writes

from slipway_operator.kube.kinds import TRAINING_RUN


@pytest.fixture(scope="module")
def operator_settings():
    return {"resync": "1s"}


def passes(operator, kind):
    """How many passes over objects of a kind the operator made so far."""
    text = httpx.get(f"http://127.0.0.1:{operator.port}/metrics").text
    found = re.search(rf'^slipway_operator_reconcile_seconds_count{{kind="{kind}"}} (\S+)$', text, re.M)
    return float(found[1]) if found else 0.0


def test_F_each_status_that_is_written_says_something_new_and_a_pass_writes_one_at_most(runs, operator, control_plane):
    before = passes(operator, "TrainingRun")
    runs.apply("well").reaches("Serving")
    found = Counter(one.resource for one in settled(control_plane.audit_log, runs.namespace))
    statuses = [manifest.get("status") for manifest in runs.api.versions(TRAINING_RUN, runs.namespace)]
    # A write that changes nothing makes no new version, so that no watch tells of it.
    assert found["trainingruns/status"] == len(statuses) - 1
    assert all(one != other for one, other in pairwise(statuses))
    assert found["trainingruns/status"] <= passes(operator, "TrainingRun") - before


def test_F_when_nothing_changes_nothing_is_written(runs, operator, control_plane):
    runs.apply("well").reaches("Serving")
    held = runs.apply("hold-evaluate-1-x", endpoint=None)
    held.pod("evaluate").ends(0, "")
    held.reaches("Held")
    before = len(settled(control_plane.audit_log, runs.namespace))
    looks = passes(operator, "TrainingRun")
    # Events that say nothing new, and several resyncs.
    runs.api.merge(TRAINING_RUN, runs.namespace, "well", {"metadata": {"annotations": {"team": "a"}}})
    held.annotate("reevaluated-by", "nobody")
    eventually(lambda: passes(operator, "TrainingRun") > looks, "the operator looked again")
    time.sleep(3)
    assert len(by_operator(writes(control_plane.audit_log, runs.namespace))) == before


def test_F_waiting_for_a_step_writes_nothing_and_progress_at_most_each_second(runs, control_plane, pods_say):
    run = runs.apply("hold-learn-1-x", endpoint=None)
    # A pod that says nothing is asked ever less often.
    pods_say.say_progress(runs.namespace, "slipway-run-hold-learn-1-x-learn-1", step=0, total=100)
    run.pod("learn").runs()
    run.reaches("Training")
    settled(control_plane.audit_log, runs.namespace)
    started = time.monotonic()
    before = len(by_operator(writes(control_plane.audit_log, runs.namespace)))
    for step in range(1, 25):
        pods_say.say_progress(runs.namespace, "slipway-run-hold-learn-1-x-learn-1", step=step, total=100)
        run.annotate("look", str(step))
        time.sleep(0.25)
    allowed = (time.monotonic() - started) / 1.0 + 1
    written = len(by_operator(writes(control_plane.audit_log, runs.namespace))) - before
    assert 1 <= written <= allowed
