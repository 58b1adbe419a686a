"""What a person at the command line is told whose model passed and does not answer: by the operator's own process and
a real API server."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable

import pytest
from tests.integration.control_plane import ControlPlane
from tests.integration.operator.runs_on_cluster import Runs
from tests.programs import program

WHY = "its server ended with exit code 1: OSError: model.safetensors is damaged"


@pytest.fixture(autouse=True)
def _kubectl(control_plane: ControlPlane, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(control_plane.kubeconfig))
    monkeypatch.setenv("SLIPWAY_KUBECTL", program("kubectl"))


def watched(runs: Runs, name: str, *options: str, meanwhile: Callable[[int], None] | None = None) -> tuple[int, str]:
    """Looks on until the command ends, and has something happen every other second. Returns its exit code and words."""
    command = [sys.executable, "-m", "slipway", "watch", name, "-n", runs.namespace, *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        for number in range(60):
            if process.poll() is not None:
                break
            if meanwhile is not None:
                meanwhile(number)
            time.sleep(2)
        else:
            process.kill()
        assert process.stdout is not None
        said = process.stdout.read()
    return process.returncode, said


@pytest.mark.slow
def test_a_live_version_whose_server_ends_again_and_again_is_not_said_to_serve_nor_waited_for(runs):
    runs.apply("first").reaches("Serving")
    pod = runs.endpoint().pod(1)
    pod.crashes(1, "OSError: model.safetensors is damaged", times=1).starts_again()
    runs.endpoint().shows("Ready", "NotAnswering", "False")

    def ends_again(number: int) -> None:
        # The command looks while it is in its back-off, and while the next one loads.
        crashed = pod.crashes(1, "OSError: model.safetensors is damaged", times=2 + number // 2)
        if number % 2:
            crashed.starts_again()

    code, said = watched(runs, "first", meanwhile=ends_again)
    assert code == 1, said
    assert "The model passed and does not answer: the server of version 1 ended" in said
    assert f"times in a row, at last: pod {pod.name}: {WHY}\n" in said
    assert "Serving. Chat with it" not in said
    assert "still serves" not in said
    pod.runs()
    runs.endpoint().reaches("Serving", version=1)
    code, said = watched(runs, "first")
    assert code == 0, said
    assert "Serving. Chat with it" in said


@pytest.mark.slow
def test_b_a_candidate_without_a_place_is_waited_for_no_longer_than_was_asked_and_goes_on(runs):
    runs.apply("first").reaches("Serving")
    second = runs.apply("second", template={"resources": {"requests": {"cpu": "100000"}}})
    runs.endpoint().edit(resources={"requests": {"cpu": "100000"}})
    runs.endpoint().shows("CandidateUnschedulable", "NoNodeFits")
    code, said = watched(runs, "second", "--start-timeout", "5s")
    assert code == 1, said
    assert "The model passed and does not answer: it did not answer within 5 s: no node takes the pod" in said
    assert "Endpoint chat still serves version 1 of run first." in said
    runs.endpoint().edit(resources=None)
    second.reaches("Serving")
