"""Helm, from the cache of the test cluster."""

import subprocess

import pytest
from tests.unit.chart.rendering import ROOT, Helm


@pytest.fixture(scope="session")
def helm() -> Helm:
    """Built when it is missing and Go can be had."""
    script = 'tools/testcluster/build.sh helm >&2 && . tools/testcluster/cache.sh && echo "$BIN/helm"'
    done = subprocess.run(["bash", "-c", script], cwd=ROOT, capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"Helm cannot be built here: {done.stderr.strip().splitlines()[-1]}")
    return Helm(done.stdout.strip())
