"""Invariant F: the operator may die after any of its writes; the next one finds its way from the cluster alone."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.integration.api_client import eventually
from tests.integration.operator.deadly_proxy import DeadlyProxy
from tests.integration.operator.operator_process import OperatorProcess
from tests.integration.operator.runs_on_cluster import STEPS, Run, Runs, verdicts


@pytest.fixture
def proxy() -> DeadlyProxy:
    return DeadlyProxy()


@pytest.fixture
def mortal(control_plane, namespace, pods_say, proxy, tmp_path) -> Iterator[OperatorProcess]:
    with proxy.listening(control_plane.operator_kubeconfig, tmp_path) as kubeconfig:
        # What other tests have left elsewhere would have it write, and die, before it was ready.
        settings = {"podUrl": pods_say.url, "watchNamespaces": [namespace]}
        operator = OperatorProcess(kubeconfig, tmp_path / "operator", settings)
        proxy.kill = operator.kill
        yield operator
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
    control_plane, namespace, proxy, mortal
):
    proxy.dies_after = lambda write: True
    mortal.start()
    run = Runs(control_plane.api, namespace).apply("well")
    lives_again_until_serving(mortal, run, 500)
    assert len(proxy.writes) > 15
    assert_nothing_was_done_twice(Runs(control_plane.api, namespace), run)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_F_an_operator_that_dies_once_wherever_it_is_brings_the_run_to_its_end(control_plane, namespace, proxy, mortal):
    runs = Runs(control_plane.api, namespace)
    mortal.start()
    for number in range(1, 60):
        left = number
        died_at = None

        def dies(write: str) -> bool:
            nonlocal left, died_at
            left -= 1
            died_at = write if left == 0 else died_at
            return left == 0

        proxy.dies_after = dies
        run = runs.apply(f"dies-at-{number}", endpoint=f"endpoint-{number}")
        lives_again_until_serving(mortal, run, 60)
        proxy.dies_after = lambda write: False
        assert_nothing_was_done_twice(runs, run)
        if died_at is None:
            break
    assert 15 < number < 59
