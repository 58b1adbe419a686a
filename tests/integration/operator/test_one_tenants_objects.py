"""What one tenant makes takes neither the operator's memory nor its time from the others: measured on its process.

`docs/operator.md` has the figures of the whole attack, 500 ConfigMaps of 1 MB, which `make chaos` makes; here are 48 of
them, and large objects of other kinds.
"""

from __future__ import annotations

import copy
import os
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.integration.api_client import ApiClient, Manifest, eventually
from tests.integration.control_plane import ControlPlane
from tests.integration.fresh_namespace import fresh_namespace
from tests.integration.operator.operator_process import OperatorProcess
from tests.integration.operator.runs_on_cluster import SPEC, Runs

from slipway_operator.kube.kinds import TRAINING_RUN

LIMITS = {"runs": 3, "endpoints": 2, "memory": "4Mi"}
CONFIG_MAPS = int(os.environ.get("SLIPWAY_TENANT_CONFIG_MAPS", "48"))
LABEL = {"app.kubernetes.io/managed-by": "slipway"}
NOTES = {f"note-{index}": "x" * 60_000 for index in range(4)}
"""Annotations, of which an object may have 256 KiB."""


@pytest.fixture(scope="module")
def operator_settings() -> dict[str, object]:
    return {"limits": LIMITS, "resync": "10s"}


@pytest.fixture
def tenant(control_plane: ControlPlane) -> Iterator[str]:
    with fresh_namespace(control_plane.api, f"tenant-{uuid.uuid4().hex[:6]}") as name:
        yield name


def config_map(index: int) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": f"large-{index}", "labels": LABEL},
        "data": {"text": "x" * 1_000_000},
    }


def service(index: int) -> Manifest:
    metadata = {"name": f"large-{index}", "labels": LABEL, "annotations": NOTES}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"ports": [{"port": 80}]}}


def pod(index: int) -> Manifest:
    variables = [{"name": f"V{number}", "value": "x" * 900} for number in range(900)]
    container = {"name": "c", "image": "none", "env": variables}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"large-{index}", "labels": LABEL, "annotations": NOTES},
        "spec": {"containers": [container], "nodeSelector": {"no": "node"}},
    }


def run(index: int) -> Manifest:
    metadata = {"name": f"large-{index:02}", "annotations": NOTES}
    spec = {**copy.deepcopy(SPEC), "suspend": True}
    return {"apiVersion": "slipway.dev/v1alpha1", "kind": "TrainingRun", "metadata": metadata, "spec": spec}


def attack(api: ApiClient, namespace: str, first: int = 0) -> None:
    """Makes ConfigMaps of 1 MB each, and as large ones of other kinds."""
    made = [
        *(config_map(index) for index in range(first, first + CONFIG_MAPS)),
        *(service(index) for index in range(first, first + 8)),
        *(pod(index) for index in range(first, first + 8)),
        *(run(index) for index in range(first, first + 8)),
    ]
    with ThreadPoolExecutor(8) as hands:
        list(hands.map(lambda manifest: api.create(manifest, namespace), made))


def peak(operator: OperatorProcess) -> int:
    """MiB that the process had at the most."""
    assert operator.process is not None
    status = Path(f"/proc/{operator.process.pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) >> 10


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_what_a_tenant_makes_takes_no_memory_and_holds_nobody_up(
    runs: Runs, operator: OperatorProcess, control_plane: ControlPlane, tenant: str
):
    runs.apply("before", endpoint=None, suspend=True).reaches("Suspended")
    usual = peak(operator)
    attack(control_plane.api, tenant)
    runs.apply("beside", endpoint=None, suspend=True).reaches("Suspended")
    watched = peak(operator)
    operator.stop()
    operator.start()
    runs.apply("after", endpoint=None, suspend=True).reaches("Suspended")
    listed = peak(operator)
    print(f"peak: usual {usual} MiB, with what the watches told {watched}, with what was listed {listed}")
    assert watched < usual + 50
    assert listed < usual + 50


def test_a_run_beyond_the_limit_says_so_and_goes_on_when_there_is_room(runs: Runs):
    first = [runs.apply(f"run-{index}", endpoint=None, suspend=True) for index in range(3)]
    for one in first:
        one.reaches("Suspended")
    beyond = runs.apply("run-3", endpoint=None)
    message = beyond.shows("TooMany", "NamespaceTooLarge")
    assert "operator.limits.runs" in message
    assert beyond.jobs() == []
    first[0].delete()
    beyond.reaches("Completed")
    assert beyond.condition("TooMany") == {}


def test_a_namespace_whose_objects_are_too_many_is_left_alone_and_goes_on_without_them(
    runs: Runs, control_plane: ControlPlane
):
    for index in range(12):
        runs.api.create(service(index), runs.namespace)
    one = runs.apply("one", endpoint=None)
    assert "Service" in one.shows("TooMany", "NamespaceTooLarge")
    assert one.jobs() == []
    for index in range(12):
        control_plane.kubectl("delete", "service", f"large-{index}", "--namespace", runs.namespace, "--wait=false")
    one.reaches("Completed")
    assert [made["metadata"]["name"] for made in runs.api.list(TRAINING_RUN, runs.namespace)] == ["one"]
    eventually(lambda: not one.condition("TooMany"), "it says so no more")
