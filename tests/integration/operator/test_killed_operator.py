"""Invariant F: the operator may die after any of its writes; the next one finds its way from the cluster alone."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.integration.api_client import eventually
from tests.integration.control_plane import ControlPlane
from tests.integration.fresh_namespace import fresh_namespace
from tests.integration.operator.deadly_proxy import DeadlyProxy
from tests.integration.operator.operator_process import OperatorProcess
from tests.integration.operator.pod_stand_in import PodStandIn
from tests.integration.operator.runs_on_cluster import STEPS, Run, Runs, verdicts

LANES = 3
"""Operators that die at the same time, each in a namespace of its own: a run waits more than it works."""
EVERY = int(os.environ.get("SLIPWAY_KILLED_EVERY", "2"))
"""At which writes an operator dies once. The test before has it die after each of them; `make chaos` has all here."""


@contextmanager
def a_mortal(
    control_plane: ControlPlane, pods_say: PodStandIn, namespace: str, folder: Path
) -> Iterator[tuple[OperatorProcess, DeadlyProxy]]:
    """An operator, not yet started, on a proxy that kills it."""
    proxy = DeadlyProxy()
    folder.mkdir(exist_ok=True)
    with proxy.listening(control_plane.operator_kubeconfig, folder) as kubeconfig:
        # What other tests have left elsewhere would have it write, and die, before it was ready.
        settings = {"podUrl": pods_say.url, "watchNamespaces": [namespace]}
        operator = OperatorProcess(kubeconfig, folder / "operator", settings)
        proxy.kill = operator.kill
        try:
            yield operator, proxy
        finally:
            if operator.alive:
                operator.stop()
        assert "Traceback" not in operator.log, operator.log[-5000:]


def lives_again_until_serving(operator: OperatorProcess, run: Run, seconds: float) -> None:
    """Starts the operator again each time that it was killed, as its Deployment would."""

    def serving() -> bool:
        if not operator.alive:
            operator.spawn()
        return run.phase == "Serving"

    try:
        eventually(serving, "Serving", seconds)
    except AssertionError:
        raise AssertionError(f"{run.name} is {run.phase}: {run.status}; {operator.log[-2000:]}") from None


def assert_nothing_was_done_twice(runs: Runs, run: Run) -> None:
    attempts = sorted((job["metadata"]["labels"]["slipway.dev/step"], job["metadata"]["name"]) for job in run.jobs())
    assert [step for step, _ in attempts] == sorted(STEPS), attempts
    assert [record["attempt"] for record in run.status["stages"]] == [1, 1, 1, 1]
    endpoint = runs.endpoint(run.manifest["spec"]["serving"]["endpoint"])
    assert (endpoint.versions, endpoint.live["version"]) == (["1"], 1)
    # A status is written before what it says is applied: the flip may be what the dead operator still owed.
    eventually(lambda: endpoint.routed == "1", "the traffic goes to version 1")
    [verdict] = [one for one in verdicts(run.api, run.namespace) if one["data"]["runUid"] == run.uid]
    assert verdict["data"]["digest"] == run.status["artifact"]["digest"]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_F_an_operator_that_dies_after_each_of_its_writes_brings_a_run_to_its_end(
    control_plane, namespace, pods_say, tmp_path
):
    with a_mortal(control_plane, pods_say, namespace, tmp_path) as (mortal, proxy):
        proxy.dies_after = lambda write: True
        mortal.start()
        runs = Runs(control_plane.api, namespace)
        run = runs.apply("well")
        lives_again_until_serving(mortal, run, 500)
        assert len(proxy.writes) > 15
        assert_nothing_was_done_twice(runs, run)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_F_an_operator_that_dies_once_wherever_it_is_brings_the_run_to_its_end(
    control_plane, namespace, pods_say, tmp_path
):
    def die_at_each(first: int) -> int:
        """Has an operator die at its write number `first`, in another run at the one EVERY * LANES later, and so on.

        Returns the first number that the writes of a run did not reach.
        """
        folder = tmp_path / str(first)
        with (
            fresh_namespace(control_plane.api, f"{namespace}-{first}") as own,
            a_mortal(control_plane, pods_say, own, folder) as (mortal, proxy),
        ):
            mortal.start()
            for number in range(first, 59, EVERY * LANES):
                if given_up.is_set() or not _dies_at(number, mortal, proxy, Runs(control_plane.api, own)):
                    return number
            raise AssertionError("the writes of a run have no end")

    given_up = threading.Event()
    with ThreadPoolExecutor(LANES) as pool:
        try:
            lanes = [pool.submit(die_at_each, first) for first in range(1, EVERY * LANES + 1, EVERY)]
            ends = [lane.result() for lane in as_completed(lanes)]
        finally:
            given_up.set()  # Of the other lanes, when one has failed or the time is over.
    assert all(end > 15 for end in ends), ends


def _dies_at(number: int, mortal: OperatorProcess, proxy: DeadlyProxy, runs: Runs) -> bool:
    """Makes a run whose operator dies at its write of that number. Returns whether there was one."""
    writes = itertools.count(1)
    died = False

    def dies(_: str) -> bool:
        nonlocal died
        now = next(writes) == number
        died = died or now
        return now

    proxy.dies_after = dies
    run = runs.apply(f"dies-at-{number}", endpoint=f"endpoint-{number}")
    lives_again_until_serving(mortal, run, 60)
    proxy.dies_after = lambda write: False
    assert_nothing_was_done_twice(runs, run)
    return died
