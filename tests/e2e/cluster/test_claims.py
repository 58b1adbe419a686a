"""What a step reaches of the claims of its namespace, on a real node: its own folder, and what its run names."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from tests.e2e.cluster import runs
from tests.e2e.cluster.kube import Document, Kube, wait
from tests.e2e.cluster.namespaces import namespace

from slipway.cluster.client_settings import ClientSettings
from slipway.cluster.pods.helper_pod import HelperPod

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

CORPUS, WORKSPACE = "corpus", "slipway-workspace"
NEIGHBOR = "other-12345678"
_FILL = """\
set -e
cd /workspace/data
mkdir -p sft/deep pool
samples=$(python3 -c 'import slipway_trainer as t; print(t.__path__[0])')/samples
cp "$samples/tang.jsonl" sft/a.jsonl
cp "$samples/tang.jsonl" pool/b.jsonl
ln -s ../../pool/b.jsonl sft/deep/b.jsonl
"""


@pytest.fixture(scope="module")
def team(kube: Kube) -> Iterator[Kube]:
    """A namespace with data in a claim, and with the folder of another run in its workspace."""
    with namespace("slipway-e2e-claims", kube.program) as team:
        team.apply(claim(CORPUS), claim(WORKSPACE))
        in_a_pod(team, CORPUS, "data", _FILL)
        in_a_pod(team, WORKSPACE, NEIGHBOR, f"echo mine >/workspace/{NEIGHBOR}/artifact")
        yield team


def claim(name: str) -> Document:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "labels": {"app.kubernetes.io/managed-by": "slipway"}},
        "spec": {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}},
    }


def in_a_pod(team: Kube, claim: str, writes: str | None, script: str) -> str:
    """Runs a script in a pod of the command line: with one folder of the claim, or with all of it to read."""
    pod = HelperPod("read", claim, writes=writes, lifetime=300).manifest(ClientSettings("slipway-train:dev"))
    name = team.run("create", "-f", "-", "-o", "name", text=json.dumps(pod)).strip()
    running = lambda: team.status("pod", name.removeprefix("pod/")).get("phase") == "Running"  # noqa: E731
    wait(running, f"{name} to run", 120, lambda: team.run("describe", name))
    try:
        return team.run("exec", name, "-c", "helper", "--", "sh", "-c", script)
    finally:
        team.run("delete", name, "--wait=false")


def training_pod(team: Kube, run: str) -> str | None:
    pods = team.list("pods", f"slipway.dev/run={run},slipway.dev/step=pretrain")
    return next((pod["metadata"]["name"] for pod in pods if pod["status"].get("phase") == "Running"), None)


def test_H_a_step_reaches_its_own_folder_and_what_its_run_names_and_nothing_else(team: Kube) -> None:
    team.apply(runs.one_stage("reads", steps=4000, uri=f"pvc://{CORPUS}/data/sft/a.jsonl"))
    pod = wait(lambda: training_pod(team, "reads"), "the stage to run", 300, lambda: team.why("reads"))
    run = team.get("trainingrun", "reads")
    assert run is not None
    own = f"/workspace/reads-{run['metadata']['uid'][:8]}"

    def tried(script: str) -> str:
        return team.run("exec", pod, "-c", "trainer", "--", "sh", "-c", f"{{ {script}; }} 2>&1 || true").strip()

    assert tried("ls -d /workspace/* /claims") == f"ls: cannot access '/claims': No such file or directory\n{own}"
    assert tried(f"touch {own}/x && rm {own}/x") == ""
    assert "Read-only file system" in tried("touch /workspace/x")
    assert "No such file" in tried(f"cat {own}/../{NEIGHBOR}/artifact")

    team.run("delete", "trainingrun", "reads")
    # What `slipway rm --now` writes: what the run left stays for a day otherwise.
    team.run("annotate", "configmaps", "-l", "slipway.dev/role=plan", "slipway.dev/remove=now")
    wait(lambda: not team.list("configmaps", "slipway.dev/role=plan"), "the run's folder to be removed", 180)
    left = in_a_pod(team, WORKSPACE, None, f"ls /workspace; cat /workspace/{NEIGHBOR}/artifact")
    assert left.split() == [NEIGHBOR, "mine"]


@pytest.mark.parametrize(
    ("name", "path", "said"),
    [
        ("typo", "data/sft/typo.jsonl", "No such file or directory in the claim; put it there, or correct the URI"),
        ("link", "data/sft", f"a link in it leads to /claims/{CORPUS}/data/pool/b.jsonl"),
    ],
)
def test_H_what_a_run_names_and_does_not_find_is_told_by_its_field_and_nothing_is_made_in_the_claim(
    team: Kube, name: str, path: str, said: str
) -> None:
    before = in_a_pod(team, CORPUS, None, "find /workspace")
    team.apply(runs.one_stage(name, steps=10, uri=f"pvc://{CORPUS}/{path}"))
    prepare = team.wait_for_phase(name, "Failed", seconds=180)["status"]["stages"][0]
    assert prepare["message"].startswith(f"stages[0].data.train[0].uri: pvc://{CORPUS}/{path}: {said}")
    assert prepare["attempt"] == 1, "bad input is not tried again"
    assert in_a_pod(team, CORPUS, None, "find /workspace") == before
