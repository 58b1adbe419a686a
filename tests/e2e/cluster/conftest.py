"""A cluster with Slipway on it, as `make cluster-up images deploy` leaves it; `make e2e` does both and runs these."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.e2e.cluster.kube import Kube
from tests.e2e.cluster.namespaces import namespace
from tests.programs import program

SYSTEM = "slipway-system"
NAMESPACE = "slipway-e2e"
"""Not `default`, where whoever has the cluster may have a quickstart of their own."""


@pytest.fixture(scope="session")
def kube() -> Iterator[Kube]:
    """The namespace in which the tests have their runs: a fresh one, as strict as may be."""
    found = Kube(NAMESPACE, program("kubectl"))
    answer = subprocess.run([found.program, "get", "crd", "trainingruns.slipway.dev"], capture_output=True, text=True)
    if answer.returncode:
        pytest.fail(f"no cluster with Slipway: make cluster-up images deploy ({answer.stderr.strip()})", pytrace=False)
    with namespace(NAMESPACE, found.program) as fresh:
        yield fresh


@pytest.fixture(scope="session")
def system(kube: Kube) -> Kube:
    """The operator's namespace."""
    return Kube(SYSTEM, kube.program)


@pytest.fixture(scope="session")
def examples() -> Path:
    return Path(__file__).parents[3] / "examples"


@pytest.fixture(scope="session")
def audit_log() -> Path | None:
    """Every write that the API server took; None on a cluster that keeps none."""
    named = os.environ.get("SLIPWAY_AUDIT_LOG")
    return Path(named) if named and Path(named).exists() else None
