"""What `kubectl apply` of a run does on a real node: real images, real DeepSpeed processes, a real gate, a real vLLM.

The tests of this file go on from each other, as a day with a cluster does: the quickstart goes live, a run that does
not pass leaves it alone, a run over two pods survives what is done to it and takes over, and is taken back.
"""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from datetime import datetime
from pathlib import Path

import httpx
import pytest
from tests.e2e.cluster import runs
from tests.e2e.cluster.kube import Kube, wait
from tests.e2e.cluster.traffic import traffic
from tests.integration.operator.audit import by_operator, progress_writes, writes

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1500)]

POEM = "床前明月光，\n疑是地上霜。\n举头望明月，\n低头思故乡。"
SERVE_IMAGE = "slipway-serve:dev"
PORT = 8000


def seconds_between(start: str, end: str) -> float:
    return (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()


@pytest.fixture(scope="module")
def quickstart(kube: Kube, examples, audit_log):
    before = written(kube, audit_log)
    begun = time.time()
    kube.apply(examples / "quickstart.yaml")
    run = kube.wait_for_phase("quickstart", "Serving", seconds=900)
    run["seconds"] = time.time() - begun
    time.sleep(2)  # What the last pass tells comes after its status.
    run["writes"] = written(kube, audit_log)[len(before) :]
    run["progress"] = progress_writes(kube.versions("quickstart"))
    return run


def written(kube: Kube, audit_log: Path | None) -> list[str]:
    """What the operator has written in the namespace so far."""
    found = by_operator(writes(audit_log, kube.namespace)) if audit_log is not None else []
    return [f"{one.verb} {one.resource}" for one in found]


@pytest.fixture(scope="module")
def live(kube: Kube, quickstart):
    """The quickstart's model, live; whatever a test does, this is what it finds."""
    assert kube.status("modelendpoint", "chat")["live"]["run"] == "quickstart"
    return quickstart


def test_the_quickstart_reaches_serving_in_ten_minutes(quickstart):
    for stage in quickstart["status"]["stages"]:
        print(f"{stage['name']:10} {seconds_between(stage['startedAt'], stage['finishedAt']):6.0f} s")
    conditions = {c["type"]: c for c in quickstart["status"]["conditions"]}
    judged, served = conditions["Passed"]["lastTransitionTime"], conditions["Live"]["lastTransitionTime"]
    print(f"gate to live {seconds_between(judged, served):4.0f} s")
    print(f"all        {quickstart['seconds']:6.0f} s")
    assert quickstart["seconds"] < 600


def test_its_service_answers_with_the_poem(kube: Kube, live):
    with kube.forwarded("service/chat", PORT) as url:
        answer = httpx.post(f"{url}/chat", json={"message": "背诵李白的《夜思》", "temperature": 0}, timeout=60)
    assert answer.status_code == 200, answer.text
    assert answer.json()["response"] == POEM


def test_A_its_server_verified_who_says_that_it_passed(kube: Kube, live):
    version = kube.status("modelendpoint", "chat")["live"]
    said = kube.run("logs", f"deployment/slipway-serve-chat-v{version['version']}")
    assert f"the verdict on {version['digest']} is signed by the key {version['signedBy']}" in said


def test_F_the_operator_wrote_fewer_than_thirty_times(live, audit_log):
    if audit_log is None:
        pytest.skip("this cluster keeps no audit log")
    found = Counter(live["writes"])
    print(json.dumps(found, indent=1), f"{live['progress']} of them progress alone")
    assert len(live["writes"]) - live["progress"] < 30, found


def test_H_its_pods_have_no_token_no_root_and_no_way_to_write(kube: Kube, live):
    pods = kube.list("pods", "app.kubernetes.io/managed-by=slipway")
    assert pods
    for pod in pods:
        spec = pod["spec"]
        assert spec["automountServiceAccountToken"] is False
        assert spec["securityContext"]["runAsNonRoot"] is True
        for container in [*spec["containers"], *spec.get("initContainers", [])]:
            assert container["securityContext"]["readOnlyRootFilesystem"] is True
            assert container["securityContext"]["allowPrivilegeEscalation"] is False


def test_A_a_run_that_does_not_pass_leaves_the_live_model_answering(kube: Kube, live, examples):
    with traffic(kube, "chat", PORT, SERVE_IMAGE) as report:
        kube.apply(examples / "rejected.yaml")
        rejected = kube.wait_for_phase("rejected", "Rejected", seconds=600)
    assert rejected["status"]["evaluation"]["verdict"] == "Fail"
    assert kube.status("modelendpoint", "chat")["live"]["run"] == "quickstart"
    assert report.asked["short"] > 10
    assert report.failed == []


@pytest.fixture(scope="module")
def taken_over(kube: Kube, system: Kube, live):
    """A run over two pods is killed in many ways, passes, and takes over under traffic."""
    kube.apply(runs.two_nodes())
    wait(lambda: training(kube, "pair"), "the run over two pods to train", 300, lambda: kube.why("pair"))
    pods = kube.list("pods", "slipway.dev/run=pair,slipway.dev/step=pretrain")
    assert {pod["metadata"]["annotations"]["batch.kubernetes.io/job-completion-index"] for pod in pods} == {"0", "1"}
    victim = random.choice(pods)["metadata"]["name"]
    kube.run("delete", "pod", victim, "--grace-period=0", "--force")
    kill_the_operator(system)
    wait(lambda: attempt(kube, "pair", "pretrain") >= 2, "the second attempt", 180, lambda: kube.why("pair"))
    with traffic(kube, "chat", PORT, SERVE_IMAGE) as report:
        run = kube.wait_for_phase("pair", "Serving", seconds=900)
        # The last version is drained after its probation, and its clients move: that too must lose nothing.
        wait(lambda: len(kube.list("pods", "slipway.dev/endpoint=chat")) == 1, "the last version to end", 300)
        time.sleep(10)
    return {"run": run, "report": report}


def training(kube: Kube, run: str):
    """Returns the progress of a run's first stage once it trains."""
    for stage in kube.status("trainingrun", run).get("stages", []):
        under_way = stage["name"] == "pretrain" and stage["state"] == "Running"
        if under_way and stage.get("progress", {}).get("step", 0) > 50:
            return stage["progress"]
    return None


def attempt(kube: Kube, run: str, step: str) -> int:
    stages = kube.status("trainingrun", run).get("stages", [])
    return next((stage.get("attempt", 0) for stage in stages if stage["name"] == step), 0)


def kill_the_operator(system: Kube) -> None:
    """SIGKILL to every replica at once, whatever they are doing."""
    system.run("delete", "pods", "-l", "app.kubernetes.io/component=operator", "--grace-period=0", "--force")


def test_D_a_killed_training_pod_goes_on_from_its_checkpoint(kube: Kube, taken_over):
    stages = {stage["name"]: stage for stage in taken_over["run"]["status"]["stages"]}
    pretrain = stages["pretrain"]
    assert pretrain["attempt"] >= 2
    assert pretrain["failures"] == 0, "a disruption is not counted"
    assert pretrain["resumedStep"] >= 50


def test_B_a_take_over_loses_no_request(taken_over):
    report = taken_over["report"]
    print(json.dumps({"asked": report.asked, "answers": report.answers}, ensure_ascii=False))
    assert report.failed == []
    assert report.asked["short"] > 30
    assert report.asked["stream"] > 5
    assert len(report.answers) >= 2, "both models have answered"


def test_B_a_rollback_puts_the_earlier_version_back(kube: Kube, taken_over):
    first = next(v for v in kube.status("modelendpoint", "chat")["history"] if v.get("run") == "quickstart")
    patch = {"spec": {"rollbackTo": first["version"]}}
    kube.run("patch", "modelendpoint", "chat", "--type=merge", "-p", json.dumps(patch))
    wait(
        lambda: kube.status("modelendpoint", "chat").get("live", {}).get("digest") == first["digest"],
        "the rollback", 300, lambda: kube.why("pair"),
    )  # fmt: skip
    with kube.forwarded("service/chat", PORT) as url:
        answer = httpx.post(f"{url}/chat", json={"message": "背诵李白的《夜思》", "temperature": 0}, timeout=60)
    assert answer.json()["response"] == POEM


def test_deleting_a_run_leaves_its_model_live(kube: Kube, taken_over):
    kube.run("delete", "trainingrun", "quickstart", "pair", "rejected", "--wait")
    # What `slipway rm --now` writes: what they left stays for a day otherwise.
    kube.run("annotate", "configmaps", "-l", "slipway.dev/role=plan", "slipway.dev/remove=now")
    cleaned = lambda: [  # noqa: E731
        job for job in kube.list("jobs", "slipway.dev/role=cleanup") if job.get("status", {}).get("succeeded")
    ]
    wait(lambda: len(cleaned()) >= 1, "the cleanup", 180, lambda: kube.run("get", "jobs,pods", "-o", "wide"))
    assert kube.status("modelendpoint", "chat")["phase"] == "Serving"
    with kube.forwarded("service/chat", PORT) as url:
        assert httpx.get(f"{url}/readyz", timeout=30).status_code == 200
