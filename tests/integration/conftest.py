"""What integration tests against a real API server share. With pytest-xdist each worker has one of its own."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator

import pytest
from tests.integration.control_plane import ControlPlane, started

from slipway_operator.kinds import NAMESPACE


@pytest.fixture(scope="session")
def control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    with started(tmp_path_factory.mktemp("control-plane")) as plane:
        yield plane


@pytest.fixture
def namespace(control_plane: ControlPlane, request: pytest.FixtureRequest) -> Iterator[str]:
    """A fresh namespace, called after the test, so that logs say whose an object was."""
    words = re.sub(r"[^a-z0-9]+", "-", request.node.name.removeprefix("test_").lower())[:40].strip("-")
    name = f"{words}-{uuid.uuid4().hex[:6]}"
    control_plane.api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    yield name
    control_plane.api.delete(NAMESPACE, None, name)
