"""Many runs at once: none is lost, none waits for ever, and what finishes does not wait behind what begins."""

import os

import pytest
from tests.integration.api_client import eventually

from slipway_operator.kube.kinds import JOB, NAMESPACE, TRAINING_RUN

NUMBER = int(os.environ.get("SLIPWAY_MANY_RUNS", "40"))
"""More than the 32 that an operator works at together. `make chaos` makes 200, which take this API server minutes."""


@pytest.mark.slow
@pytest.mark.timeout(1000)
def test_many_runs_at_once_all_come_to_their_end(runs):
    number, endpoints = NUMBER, 10
    for index in range(number):
        # Some of them go on to an endpoint each.
        runs.apply(f"run-{index:03}", endpoint=f"chat-{index}" if index < endpoints else None)

    def phases():
        return [one.get("status", {}).get("phase") for one in runs.api.list(TRAINING_RUN, runs.namespace)]

    def finished():
        found = phases()
        return (found.count("Completed"), found.count("Serving")) == (number - endpoints, endpoints)

    try:
        eventually(finished, "all runs have finished", 480, every=2)
    except AssertionError:
        raise AssertionError({phase: phases().count(phase) for phase in set(phases())}) from None
    jobs = runs.api.list(JOB, runs.namespace)
    assert len(jobs) == 4 * number
    assert all(job["metadata"]["labels"]["slipway.dev/attempt"] == "1" for job in jobs)
    # That they go is minutes of work for this API server, which the tests of the next file would wait for.
    runs.api.delete(NAMESPACE, None, runs.namespace)
    eventually(lambda: runs.api.get(NAMESPACE, None, runs.namespace) is None, "all of it is gone", 400, every=2)
