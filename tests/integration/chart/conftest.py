"""A control plane that has nothing of Slipway yet: the chart brings it."""

import subprocess
from collections.abc import Iterator

import pytest
from tests.integration.control_plane import ControlPlane
from tests.unit.chart.rendering import NAMESPACE, ROOT, Helm

_SCRIPT = ROOT / "tools" / "testcluster" / "control-plane.sh"
RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}


@pytest.fixture(scope="session")
def helm() -> Helm:
    return Helm.of_the_cache()


@pytest.fixture(scope="session")
def empty_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    plane = ControlPlane(tmp_path_factory.mktemp("empty-plane"))
    subprocess.run([_SCRIPT, "up", plane.state, "--no-kwok"], check=True, timeout=900)
    try:
        for name in (NAMESPACE, "team-a", "team-b"):
            plane.api.create(
                {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": RESTRICTED}}
            )
        yield plane
    finally:
        if "api" in vars(plane):
            plane.api.close()
        subprocess.run([_SCRIPT, "down", plane.state], check=True, timeout=60)
