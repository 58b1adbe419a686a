"""Helm, from the cache of the test cluster."""

import pytest
from tests.unit.chart.rendering import Helm


@pytest.fixture(scope="session")
def helm() -> Helm:
    return Helm.of_the_cache()
