"""What the people who run a cluster do to it while models are trained and served there, and what users do by mistake.

The tests go on from each other: a laptop's file becomes an endpoint; a second run trains beside it while the chart is
upgraded and containerd restarted; the endpoint stands an edit that no node can serve; at the end the chart goes, and
comes back under it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from tests.e2e.cluster import runs
from tests.e2e.cluster.kube import Document, Kube, wait
from tests.e2e.cluster.namespaces import namespace
from tests.e2e.cluster.traffic import traffic
from tests.programs import program
from tests.unit.chart.rendering import CHART

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

ROOT = CHART.parents[1]
SERVE_IMAGE = "slipway-serve:dev"
ENDPOINT, PORT = "operated", 8000
BLOCKED_SECONDS = 30
"""Within which a condition says why a pod does not start."""


@pytest.fixture(scope="module")
def place(kube: Kube) -> Iterator[Kube]:
    with namespace("e2e-operations", kube.program) as made:
        yield made


@dataclass(frozen=True)
class Commands:
    """The command line as a user of this cluster has it, with its plugin for kubectl."""

    namespace: str
    folder: Path

    def start(self, *command: str) -> subprocess.Popen[str]:
        path = os.pathsep.join([str(Path(sys.prefix, "bin")), str(Path(program("kubectl")).parent), os.environ["PATH"]])
        return subprocess.Popen(
            [*command, "-n", self.namespace],
            cwd=self.folder,
            env={**os.environ, "PATH": path, "NO_COLOR": "1", "COLUMNS": "200"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *command: str, seconds: float = 120) -> str:
        process = self.start(*command)
        try:
            said, _ = process.communicate(timeout=seconds)
        finally:
            process.kill()
        assert process.returncode == 0, f"{' '.join(command)}: exit {process.returncode}\n{said}"
        return said


@pytest.fixture(scope="module")
def commands(place: Kube, tmp_path_factory) -> Commands:
    return Commands(place.namespace, tmp_path_factory.mktemp("laptop"))


# ------------------------------------------------------------------------------------------------ from a laptop


@pytest.fixture(scope="module")
def submitted(place: Kube, commands: Commands) -> str:
    """What `slipway submit --wait` says of a run whose data is a file of this machine."""
    poems = (ROOT / "trainer/src/slipway_trainer/samples/tang.jsonl").read_text().splitlines(keepends=True)[:200]
    (commands.folder / "poems.jsonl").write_text("".join(poems))
    template = {"engine": {"maxModelLength": 256}, "access": {"anonymous": True}, "rollout": {"probation": "5s"}}
    run = runs.one_stage("laptop", steps=40, uri="file://poems.jsonl")
    (commands.folder / "laptop.yaml").write_text(yaml.safe_dump(runs.served_by(ENDPOINT, run, **template)))
    return commands.run("slipway", "submit", "laptop.yaml", "--wait", seconds=600)


def test_a_file_of_a_laptop_becomes_an_endpoint(place: Kube, submitted: str) -> None:
    run = place.get("trainingrun", "laptop") or {}
    (source,) = run["spec"]["stages"][0]["data"]["train"]
    assert re.fullmatch(r"pvc://slipway-workspace/inputs/[0-9a-f]{64}/poems\.jsonl", source["uri"])
    assert run["status"]["phase"] == "Serving", submitted
    assert place.list("pods", "slipway.dev/role=upload") == [], "the pod that took the file is gone"


def test_the_plugin_of_kubectl_shows_it(submitted: str, commands: Commands) -> None:
    page = commands.run("kubectl", "slipway", "status", "laptop")
    assert "run laptop: Serving" in page
    assert "bits_per_byte" in page
    assert re.search(r"step 40/40", commands.run("kubectl", "slipway", "logs", "laptop", "--stage", "pretrain"))
    commands.run("kubectl", "slipway", "plot", "laptop", "-o", "loss.png")
    assert (commands.folder / "loss.png").stat().st_size > 10_000
    assert commands.run("kubectl", "slipway", "chat", ENDPOINT, "-m", "床前明月光", "--max-length", "8").strip()


# ------------------------------------------------------------------------------------------------ upgrade, containerd


@dataclass(frozen=True)
class Disturbed:
    """A run while which the chart was upgraded and containerd restarted."""

    run: Document
    plan_digest: str
    before: dict[str, int]
    """Restarts by the uid of each pod that trained or served."""
    upgraded: dict[str, int]
    restarted: dict[str, int]


@pytest.fixture(scope="module")
def disturbed(place: Kube, submitted: str) -> Disturbed:
    place.apply(runs.one_stage("disturbed", steps=3000))
    reached = wait(lambda: trained(place, "disturbed"), "the run to train", 180, lambda: place.why("disturbed"))
    before, plan = alive(place), place.status("trainingrun", "disturbed")["planDigest"]
    with upgrade("defaults.training.sharedMemory=512Mi"):
        # The operator that came with it has looked at the run once it tells how far that is.
        wait(lambda: trained(place, "disturbed") > reached, "the new operator", 60, lambda: place.why("disturbed"))
        upgraded = alive(place)
        if not in_docker():
            restart_containerd()
        restarted = alive(place)
        run = place.wait_for_phase("disturbed", "Completed", seconds=400)
    return Disturbed(run, plan, before, upgraded, restarted)


def trained(place: Kube, run: str) -> int:
    """The step that a run's stage has reached."""
    stages = place.status("trainingrun", run).get("stages", [])
    return next((s.get("progress", {}).get("step", 0) for s in stages if s["name"] == "pretrain"), 0)


def alive(place: Kube) -> dict[str, int]:
    """The restarts of each pod that trains or serves now, by its uid."""
    pods = place.list("pods", "app.kubernetes.io/managed-by=slipway")
    return {
        pod["metadata"]["uid"]: sum(own["restartCount"] for own in pod["status"]["containerStatuses"])
        for pod in pods
        if pod["status"]["phase"] == "Running"
    }


@contextmanager
def upgrade(setting: str) -> Iterator[None]:
    """Upgrades the chart with one value changed, and goes back to the release that was there, whatever became of it."""
    (deployed,) = [r for r in json.loads(helm("history", "slipway", "-o", "json")) if r["status"] == "deployed"]
    try:
        helm("upgrade", "slipway", str(CHART), "--reuse-values", "--set", setting)
        yield
    finally:
        helm("rollback", "slipway", str(deployed["revision"]))


def helm(*arguments: str) -> str:
    command = [program("helm"), "-n", "slipway-system", *arguments]
    if arguments[0] in ("upgrade", "install", "rollback", "uninstall"):
        command += ["--wait", "--timeout", "3m"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
    return done.stdout


def in_docker() -> bool:
    """Whether the cluster is kind's, whose containerd is not ours to restart."""
    return (
        shutil.which("docker") is not None and subprocess.run(["docker", "info"], capture_output=True).returncode == 0
    )


def restart_containerd() -> None:
    """As `systemctl restart containerd` does: it ends, and starts again beside the pods that go on."""
    command = [ROOT / "tools/testcluster/node.sh", "restart", "containerd"]
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)


def test_an_upgrade_restarts_no_pod_and_changes_no_plan(disturbed: Disturbed) -> None:
    assert len(disturbed.before) >= 2, "one pod trained and one served"
    assert disturbed.upgraded == disturbed.before
    assert disturbed.run["status"]["planDigest"] == disturbed.plan_digest


def test_an_upgrade_reaches_what_starts_after_it(place: Kube, disturbed: Disturbed) -> None:
    shared = {}
    for job in place.list("jobs", "slipway.dev/run=disturbed"):
        volumes = {v["name"]: v for v in job["spec"]["template"]["spec"]["volumes"]}
        shared[job["metadata"]["labels"]["slipway.dev/step"]] = volumes["shm"]["emptyDir"]["sizeLimit"]
    assert (shared["pretrain"], shared["export"]) == ("1Gi", "512Mi")


@pytest.mark.skipif(in_docker(), reason="kind's containerd is its own; the node without Docker shows this")
def test_a_restart_of_containerd_disturbs_no_training(disturbed: Disturbed) -> None:
    assert disturbed.restarted == disturbed.upgraded
    (pretrain,) = [stage for stage in disturbed.run["status"]["stages"] if stage["name"] == "pretrain"]
    assert (pretrain["attempt"], pretrain["progress"]["step"]) == (1, 3000)


# ------------------------------------------------------------------------------------------------ a model by hand


def test_A_a_model_without_a_verdict_is_served_only_when_that_is_accepted(place: Kube, disturbed: Disturbed) -> None:
    artifact = disturbed.run["status"]["artifact"]
    spec = {"model": artifact, "engine": {"maxModelLength": 256}, "access": {"anonymous": True}}
    place.apply(
        {"apiVersion": "slipway.dev/v1alpha1", "kind": "ModelEndpoint", "metadata": {"name": "by-hand"}, "spec": spec}
    )
    judged = lambda: condition(place, "modelendpoint", "by-hand", "Judged")  # noqa: E731
    refused = wait(judged, "the endpoint to be looked at", 30)
    # The run was judged by no gate, and its signed statement says so.
    assert (refused["status"], refused["reason"]) == ("False", "NotPassed")
    assert place.list("deployments", "slipway.dev/endpoint=by-hand") == []

    patch(place, "modelendpoint", "by-hand", {"spec": {"model": {"acceptUnjudged": True}}})
    served = lambda: place.status("modelendpoint", "by-hand").get("phase") == "Serving"  # noqa: E731
    wait(served, "the model to be served", 240, lambda: place.why("disturbed"))
    accepted = judged()
    assert (accepted["status"], accepted["reason"]) == ("False", "AcceptedUnjudged")
    assert chats(place, "by-hand")
    place.run("delete", "modelendpoint", "by-hand", "--wait")


def condition(place: Kube, kind: str, name: str, wanted: str) -> Document | None:
    conditions = place.status(kind, name).get("conditions", [])
    return next((own for own in conditions if own["type"] == wanted), None)


def patch(place: Kube, kind: str, name: str, change: Document) -> None:
    place.run("patch", kind, name, "--type=merge", "-p", json.dumps(change))


def chats(place: Kube, endpoint: str) -> bool:
    with place.forwarded(f"service/{endpoint}", PORT) as url:
        body = {"message": "床前", "max_length": 4, "temperature": 0}
        answer = httpx.post(f"{url}/chat", json=body, timeout=60)
    assert answer.status_code == 200, answer.text
    return True


# ------------------------------------------------------------------------------------------------ no place for it


def test_B_a_candidate_that_fits_no_node_waits_and_the_live_version_answers(place: Kube, submitted: str) -> None:
    was = place.status("modelendpoint", ENDPOINT)["live"]["version"]
    patch(place, "modelendpoint", ENDPOINT, {"spec": {"resources": {"requests": {"cpu": "64"}}}})
    found = lambda: condition(place, "modelendpoint", ENDPOINT, "CandidateUnschedulable")  # noqa: E731
    blocked = wait(found, "CandidateUnschedulable", BLOCKED_SECONDS)
    assert "Insufficient cpu" in blocked["message"]
    assert f"Version {was} stays live" in blocked["message"]
    assert chats(place, ENDPOINT)

    patch(place, "modelendpoint", ENDPOINT, {"spec": {"resources": None}})
    wait(lambda: not found(), "the condition to go away", BLOCKED_SECONDS)
    status = place.status("modelendpoint", ENDPOINT)
    assert (status["live"]["version"], status.get("candidate")) == (was, None)
    only = lambda: len(place.list("deployments", f"slipway.dev/endpoint={ENDPOINT}")) == 1  # noqa: E731
    wait(only, "the candidate's Deployment to go", 30)


# ------------------------------------------------------------------------------------------------ what is missing


@dataclass(frozen=True)
class Missing:
    """Something that a run needs, and how it comes."""

    name: str
    condition: str
    says: str
    spec: Document
    """What the run's spec has instead."""
    comes: tuple[str, ...]
    """Arguments of kubectl."""
    goes: tuple[str, ...] = ()


STAGE = runs.one_stage("", steps=1)["spec"]["stages"][0]
SECRET = Missing(
    "no-secret",
    "SecretMissing",
    "the Secret no-such-secret does not exist",
    {"stages": [{**STAGE, "data": {"train": [{"uri": "s3://poems/tang.jsonl", "credentials": "no-such-secret"}]}}]},
    ("create", "secret", "generic", "no-such-secret", "--from-literal=AWS_ENDPOINT_URL=http://127.0.0.1:9"),
)
CLAIM = Missing(
    "no-claim",
    "ClaimMissing",
    "the claim no-such-claim does not exist",
    {"storage": {"claimName": "no-such-claim"}},
    ("apply", "-f", "-"),
)
NODE = Missing(
    "no-node",
    "Unschedulable",
    "no node takes the pod",
    {"compute": {"nodeSelector": {"slipway.dev/e2e": "here"}}},
    ("label", "nodes", "--all", "slipway.dev/e2e=here", "--overwrite"),
    ("label", "nodes", "--all", "slipway.dev/e2e-"),
)
THERE = {
    "apiVersion": "v1",
    "kind": "PersistentVolumeClaim",
    "metadata": {"name": "no-such-claim"},
    "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
}


@pytest.fixture(scope="module")
def blocked(kube: Kube) -> Iterator[Kube]:
    with namespace("e2e-blocked", kube.program) as made:
        yield made


@pytest.mark.parametrize("missing", [SECRET, CLAIM, NODE], ids=lambda missing: missing.name)
def test_a_pod_that_cannot_start_says_why_and_the_run_goes_on(blocked: Kube, missing: Missing) -> None:
    run = runs.one_stage(missing.name, steps=1)
    blocked.apply({**run, "spec": {**run["spec"], **missing.spec}})
    begun = time.monotonic()
    try:
        said = told_in_time(blocked, missing.name, missing.condition)
        print(f"{missing.condition} after {time.monotonic() - begun:.0f} s: {said['message']}")
        assert missing.says in said["message"]
        blocked.run(*missing.comes, text=json.dumps(THERE) if "-" in missing.comes else None)
        goes_on(blocked, missing.name, missing.condition)
    finally:
        if missing.goes:
            blocked.run(*missing.goes)
        blocked.run("delete", "trainingrun", missing.name, "--wait")


def told_in_time(place: Kube, run: str, wanted: str) -> Document:
    found = lambda: condition(place, "trainingrun", run, wanted)  # noqa: E731
    return wait(found, f"the condition {wanted}", BLOCKED_SECONDS, lambda: place.why(run))


def goes_on(place: Kube, run: str, blocker: str) -> None:
    """Waits until its first pod has started and nothing is in its way any more."""

    def started() -> bool:
        pods = place.list("pods", f"slipway.dev/run={run}")
        return any(pod["status"]["phase"] in ("Running", "Succeeded", "Failed") for pod in pods)

    wait(started, f"{run} to go on by itself", 120, lambda: place.why(run))
    gone = lambda: condition(place, "trainingrun", run, blocker) is None  # noqa: E731
    wait(gone, f"the condition {blocker} to go away", 30, lambda: place.why(run))


def test_a_quota_that_is_full_says_so_and_the_run_goes_on_once_there_is_room(kube: Kube) -> None:
    with namespace("e2e-quota", kube.program) as full:
        full.run("create", "quota", "few-pods", "--hard=pods=0")
        wait(lambda: "hard" in full.status("resourcequota", "few-pods"), "the quota to be counted", 30)
        full.apply(runs.one_stage("no-room", steps=1))
        said = told_in_time(full, "no-room", "QuotaExceeded")
        assert "few-pods" in said["message"]
        patch(full, "resourcequota", "few-pods", {"spec": {"hard": {"pods": "4"}}})
        goes_on(full, "no-room", "QuotaExceeded")


# ------------------------------------------------------------------------------------------------ uninstall


def test_an_uninstall_leaves_the_endpoint_answering_and_an_install_takes_it_up(
    place: Kube, submitted: str, tmp_path
) -> None:
    before, pods = everything(place), alive(place)
    values = tmp_path / "values.yaml"
    values.write_text(helm("get", "values", "slipway", "-o", "yaml"))
    with traffic(place, ENDPOINT, PORT, SERVE_IMAGE) as report:
        helm("uninstall", "slipway")
        try:
            assert everything(place) == before
        finally:
            helm("install", "slipway", str(CHART), "--values", str(values))
        # An edit that applies in place shows who looks at it.
        patch(place, "modelendpoint", ENDPOINT, {"spec": {"rollout": {"probation": "6s"}}})
        wait(lambda: is_seen(place), "the edit to be seen", 60)
        assert alive(place).items() >= pods.items()
    assert report.failed == []
    assert report.asked["short"] > 10
    assert place.status("modelendpoint", ENDPOINT)["phase"] == "Serving"


def everything(place: Kube) -> dict[str, Any]:
    """Every run and endpoint, and what it is."""
    found = [*place.list("trainingruns"), *place.list("modelendpoints")]
    return {f"{each['kind']}/{each['metadata']['name']}": (each["spec"], each["status"]) for each in found}


def is_seen(place: Kube) -> bool:
    endpoint = place.get("modelendpoint", ENDPOINT) or {}
    return endpoint["status"]["observedGeneration"] == endpoint["metadata"]["generation"]
