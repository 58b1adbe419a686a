"""What integration tests against a real API server share. With pytest-xdist each worker has one of its own."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator

import pytest
from tests.integration.control_plane import ControlPlane, started
from tests.integration.fresh_namespace import fresh_namespace


@pytest.fixture(scope="session")
def control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    with started(tmp_path_factory.mktemp("control-plane")) as plane:
        yield plane


@pytest.fixture
def namespace(control_plane: ControlPlane, request: pytest.FixtureRequest) -> Iterator[str]:
    """A fresh namespace, called after the test, so that logs say whose an object was."""
    words = re.sub(r"[^a-z0-9]+", "-", request.node.name.removeprefix("test_").lower())[:40].strip("-")
    with fresh_namespace(control_plane.api, f"{words}-{uuid.uuid4().hex[:6]}") as name:
        yield name
