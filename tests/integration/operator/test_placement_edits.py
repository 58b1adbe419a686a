"""Where a run runs, edited on a real API server: taken while nothing of it runs, and by the next attempt."""

from __future__ import annotations

from typing import Any

import pytest
from tests.integration.api_client import Refused

ELSEWHERE: dict[str, Any] = {
    "nodes": 2,
    "processesPerNode": 3,
    "tolerations": [{"key": "gpu", "operator": "Exists"}],
    "podLabels": {"team": "a"},
}


def told(job: dict[str, Any]) -> dict[str, Any]:
    (container,) = job["spec"]["template"]["spec"]["containers"]
    return {one["name"]: one.get("value") for one in container["env"]}


def test_E_a_suspended_run_goes_on_where_it_is_told_to_with_the_plan_that_it_had(runs):
    run = runs.apply("hold-learn-1-x", endpoint=None)
    run.pod("learn").runs()
    run.reaches("Training")
    digest = run.status["planDigest"]
    with pytest.raises(Refused, match=r"compute\.nodes cannot change while the run is under way: set suspend: true"):
        run.edit(compute=ELSEWHERE)
    run.edit(suspend=True)
    run.reaches("Suspended")
    run.edit(compute=ELSEWHERE)
    with pytest.raises(Refused, match=r"compute\.accelerator cannot change once the run is planned"):
        run.edit(compute={"accelerator": "example.com/gpu"})
    run.edit(suspend=False)
    pod = run.pod("learn", attempt=2, index=1)
    assert pod.manifest["metadata"]["labels"]["team"] == "a"
    run.reaches("Completed", 60)
    [job] = [job for job in run.jobs("learn") if job["metadata"]["labels"]["slipway.dev/attempt"] == "2"]
    assert (job["spec"]["completions"], told(job)["SLIPWAY_NODES"], told(job)["SLIPWAY_PROCESSES_PER_NODE"]) == (
        2,
        "2",
        "3",
    )
    record = run.record("learn")
    assert (record["attempt"], record["nodes"], record["processesPerNode"]) == (2, 2, 3)
    assert run.status["planDigest"] == digest


def test_a_run_that_waits_in_the_wrong_queue_is_moved_to_another(runs):
    run = runs.apply("queued", endpoint=None, compute={"queue": "closed"})
    run.reaches("Queued")
    run.edit(suspend=True, compute={"queue": "open"})
    run.reaches("Suspended")
    run.edit(suspend=False)
    run.reaches("Queued")
    [job] = run.jobs("prepare")
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "open"


def test_a_run_that_has_not_begun_may_be_edited(runs):
    run = runs.apply("later", endpoint=None, suspend=True, compute={"nodes": 2})
    run.reaches("Suspended")
    run.edit(compute={"nodes": 1, "processesPerNode": 2}, suspend=False)
    run.reaches("Completed")
    assert run.record("learn")["processesPerNode"] == 2


def test_a_run_whose_pod_template_is_unknown_says_so_and_makes_nothing(runs):
    run = runs.apply("template", endpoint=None, compute={"podTemplate": "fast"})
    said = run.shows("Planned", "PodTemplateUnknown", "False")
    assert "compute.podTemplate: 'fast' is none of defaults.training.podTemplates" in said
    assert run.jobs() == []
    run.edit(compute={"podTemplate": None})
    run.reaches("Completed")
