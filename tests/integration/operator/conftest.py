"""One operator for the tests of a file, as a process, on a real control plane whose pods are KWOK's."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.integration.control_plane import ControlPlane
from tests.integration.operator.operator_process import OperatorProcess
from tests.integration.operator.pod_stand_in import PodStandIn, listening
from tests.integration.operator.runs_on_cluster import Runs


@pytest.fixture(scope="session")
def pods_say() -> Iterator[PodStandIn]:
    with listening() as stand_in:
        yield stand_in


@pytest.fixture(scope="module")
def operator_settings() -> dict[str, object]:
    """What a file's operator is to have beyond what all have."""
    return {}


@pytest.fixture(scope="module")
def operator(
    control_plane: ControlPlane,
    pods_say: PodStandIn,
    operator_settings: dict[str, object],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[OperatorProcess]:
    folder = tmp_path_factory.mktemp("operator")
    process = OperatorProcess(control_plane.operator_kubeconfig, folder, {"podUrl": pods_say.url, **operator_settings})
    process.start()
    yield process
    assert process.alive, f"the operator ended on its own: {process.log[-3000:]}"
    assert process.stop() == 0
    assert "Traceback" not in process.log, process.log[-5000:]


@pytest.fixture
def runs(operator: OperatorProcess, control_plane: ControlPlane, namespace: str) -> Runs:
    """The runs of the test's own namespace, where an operator works."""
    return Runs(control_plane.api, namespace)
