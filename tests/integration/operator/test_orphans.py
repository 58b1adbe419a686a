"""A run and an endpoint that somebody deletes with `--cascade=orphan`: the garbage collector only cuts the ties."""

from __future__ import annotations

import pytest
from tests.integration.api_client import eventually

from slipway_operator import names
from slipway_operator.kube.kinds import DEPLOYMENT, EVENT, JOB, NETWORK_POLICY, PDB, POD, SERVICE


@pytest.mark.slow
def test_what_was_orphaned_is_ended_and_the_name_is_free_again(runs, control_plane):
    served = runs.apply("served")
    served.reaches("Serving")
    trains = runs.apply("hold-learn-1-x", endpoint=None, compute={"nodes": 2})
    trains.pod("learn").runs()
    trains.reaches("Training")
    for resource, name in (("modelendpoint", "chat"), ("trainingrun", trains.name)):
        command = ("delete", resource, name, "--namespace", runs.namespace, "--cascade=orphan", "--wait=true")
        control_plane.kubectl(*command)
    (job,) = trains.jobs("learn")
    assert "ownerReferences" not in job["metadata"]
    (version,) = runs.api.list(DEPLOYMENT, runs.namespace)
    assert "ownerReferences" not in version["metadata"]

    eventually(lambda: not trains.jobs(), "the Jobs of the run are gone", 120)
    own = f"{names.RUN_UID}={trains.uid}"
    eventually(lambda: not runs.api.list(SERVICE, runs.namespace, own), "its Service is gone", 30)
    eventually(lambda: not runs.api.list(POD, runs.namespace, own), "and so are its pods", 60)
    for kind in (DEPLOYMENT, SERVICE, PDB, NETWORK_POLICY):
        chat = f"{names.ENDPOINT}=chat"
        eventually(lambda kind=kind, chat=chat: not runs.api.list(kind, runs.namespace, chat), kind.kind, 60)
    served.reaches("Completed")
    told = [event["message"] for event in runs.api.list(EVENT, runs.namespace) if event["reason"] == "Orphaned"]
    assert any("the endpoint chat was deleted and this Deployment was left without an owner" in said for said in told)
    steps = runs.api.list(JOB, runs.namespace, names.STEP)
    assert {job["metadata"]["labels"][names.RUN] for job in steps} == {"served"}
