"""Curves and reports of a run, from its workspace in the cluster."""

import json

from tests.unit.cli.evidence import run_named

from slipway.cluster import evidence
from slipway_core.protocol.workspace import Workspace, run_folder
from slipway_core.resources.status import Phase, RunStatus, StepState, StepStatus

SETTINGS = "images: {train: a:1}"


def trained(cluster):
    """A run whose first stage logged two steps in its claim."""
    steps = [
        StepStatus(name="pretrain", state=StepState.SUCCEEDED, attempt=1),
        StepStatus(name="sft", state=StepState.FAILED, attempt=1, message="BadData: chat.jsonl:3: no role"),
    ]
    run = run_named().model_copy(update={"status": RunStatus(phase=Phase.FAILED, stages=steps)})
    metrics = Workspace(cluster.workspace / run_folder(run.name, run.metadata.uid)).stage("pretrain").metrics
    metrics.parent.mkdir(parents=True)
    metrics.write_text("".join(json.dumps({"step": n, "loss": 3.0 - n}) + "\n" for n in (1, 2)))
    return run


def test_a_finished_runs_curves_are_read_in_a_pod_that_is_gone_afterwards(cluster):
    run = trained(cluster)
    cluster.save(
        **{
            "persistentvolumeclaim/slipway-workspace": {},
            "configmap/slipway-client": {"data": {"client.yaml": SETTINGS}},
        }
    )
    curves = evidence.curves(cluster.kubectl, run, print)
    assert [(stage.name, stage.last_step) for stage in curves] == [("pretrain", 2)]
    assert not any(key.startswith("pod/") for key in cluster.objects)


def test_nothing_is_executed_in_a_pod_of_the_run(cluster):
    run = trained(cluster)
    at_work = {
        "metadata": {"name": "slipway-run-tang-sft-1-0-abcde", "labels": {"slipway.dev/run-uid": run.metadata.uid}},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
    }
    at_work["metadata"]["labels"]["slipway.dev/role"] = "step"
    cluster.save(
        **{
            "pod/slipway-run-tang-sft-1-0-abcde": at_work,
            "persistentvolumeclaim/slipway-workspace": {},
            "configmap/slipway-client": {"data": {"client.yaml": SETTINGS}},
        }
    )
    assert [stage.last_step for stage in evidence.curves(cluster.kubectl, run, print)] == [2]
    (executed,) = cluster.calls("exec")
    assert at_work["metadata"]["name"] not in executed


def test_what_the_status_tells_is_judged_when_the_files_are_out_of_reach(cluster):
    cluster.save(**{"persistentvolumeclaim/slipway-workspace": {}})
    said = []
    found = evidence.gather(cluster.kubectl, trained(cluster), said.append)
    assert found.errors["sft"].kind == "BadData"
    assert found.curves == []
    assert "cannot be read" in said[0]


def test_a_run_that_has_not_trained_costs_no_pod(cluster):
    assert evidence.curves(cluster.kubectl, run_named(), print) == []
    assert not cluster.calls("create")


def test_a_run_that_waits_for_its_first_pod_costs_no_pod_which_would_wait_too(cluster):
    step = StepStatus(name="prepare", state=StepState.RUNNING, attempt=1)
    run = run_named().model_copy(update={"status": RunStatus(phase=Phase.PENDING, stages=[step])})
    assert evidence.gather(cluster.kubectl, run, print).status == run.status
    assert not (cluster.root / "calls.jsonl").read_text().count('"create"')
