"""Invariant F over the life of one run, with the pace of a cluster."""

import pytest
from tests.integration.operator.audit import progress_writes, settled

from slipway_operator.kube.kinds import TRAINING_RUN
from slipway_operator.settings import Settings


@pytest.fixture(scope="module")
def operator_settings():
    return {"progressSeconds": Settings().progress_seconds}


def test_F_a_whole_run_takes_fewer_than_30_writes(runs, control_plane):
    runs.apply("well").reaches("Serving")
    found = settled(control_plane.audit_log, runs.namespace)
    told = "\n".join(f"{one.verb} {one.resource} {one.name} {one.code}" for one in found)
    progress = progress_writes(runs.api.versions(TRAINING_RUN, runs.namespace))
    assert len(found) - progress < 30, told
    assert all(one.done for one in found), told
