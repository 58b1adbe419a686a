"""What somebody forges who may write Jobs and ConfigMaps with our labels: the administrator, whom no policy stops."""

from __future__ import annotations

import copy
import json

from tests.integration.api_client import eventually
from tests.integration.operator.pod_hands import PodHands

from slipway_operator import names
from slipway_operator.kube.kinds import CONFIG_MAP, JOB, POD

INVENTED = "sha256:" + "f" * 64


def test_A_an_invented_digest_with_a_verdict_that_somebody_wrote_goes_live_nowhere(runs):
    forged = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": names.verdict(INVENTED),
            "labels": {
                names.MANAGED_BY: names.MANAGED_BY_VALUE,
                names.ROLE: "verdict",
                names.DIGEST: names.digest_label(INVENTED),
            },
        },
        "immutable": True,
        "data": {
            "verdict": "Pass",
            "digest": INVENTED,
            "uri": "pvc://slipway-workspace/evil",
            "run": "x",
            "runUid": "x",
        },
    }
    runs.api.create(forged, runs.namespace)
    endpoint = runs.endpoint()
    endpoint.apply(model={"uri": "pvc://slipway-workspace/evil", "digest": INVENTED}, access={"anonymous": True})
    assert "no passing verdict" in endpoint.shows("Judged", "NoPassingVerdict", "False")
    assert endpoint.versions == []
    assert runs.api.get(CONFIG_MAP, runs.namespace, names.verdict(INVENTED)) is not None


def test_a_labelled_copy_of_a_job_that_ends_with_2_fails_no_run(runs):
    run = runs.apply("hold-learn-1-x", endpoint=None)
    own_pod = run.pod("learn").runs()
    run.reaches("Training")
    (job,) = run.jobs("learn")
    theirs = copy.deepcopy(job)
    own = {name: value for name, value in job["metadata"]["labels"].items() if name.startswith(("slipway.dev", "app."))}
    theirs["metadata"] = {"name": "copy", "labels": own, "ownerReferences": job["metadata"]["ownerReferences"]}
    theirs["spec"].pop("selector")
    theirs["spec"]["template"]["metadata"]["labels"] = own
    runs.api.create({"apiVersion": "batch/v1", "kind": "Job", **theirs, "status": {}}, runs.namespace)
    chosen = "batch.kubernetes.io/job-name=copy"
    pod = eventually(lambda: next(iter(runs.api.list(POD, runs.namespace, chosen)), None), "the pod of the copy")
    error = {"kind": "BadData", "message": "not as it seems"}
    PodHands(runs.api, pod).ends(2, json.dumps({"step": "learn", "attempt": 1, "error": error}))

    def failed() -> bool:
        found = runs.api.get(JOB, runs.namespace, "copy") or {}
        return any(one["type"] == "Failed" for one in found.get("status", {}).get("conditions", []))

    eventually(failed, "the copy is Failed")
    run.annotate("look", "again")
    assert (run.phase, run.record("learn")["state"], run.record("learn")["attempt"]) == ("Training", "Running", 1)
    own_pod.ends(0, json.dumps({"step": "learn", "attempt": 1}))
    run.reaches("Completed")
    assert run.record("learn")["attempt"] == 1
