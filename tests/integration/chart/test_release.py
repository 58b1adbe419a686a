"""Install, upgrade and uninstall on a real API server: what the account may do, and what stays."""

import base64
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import ClassVar

import pytest
import yaml
from tests.http_server import served
from tests.integration.control_plane import ControlPlane
from tests.unit.chart.rendering import CHART, NAMESPACE, Helm

from slipway_operator.kube.kinds import TRAINING_RUN

ACCOUNT = f"system:serviceaccount:{NAMESPACE}:slipway-operator"
RUN = {
    "apiVersion": "slipway.dev/v1alpha1",
    "kind": "TrainingRun",
    "metadata": {"name": "kept"},
    "spec": {
        "model": {"from": "hf://org/name"},
        "stages": [{"name": "sft", "objective": "Chat", "steps": 1, "data": {"train": [{"uri": "package://tang"}]}}],
    },
}


@dataclass(frozen=True)
class Release:
    helm: Helm
    plane: ControlPlane

    def run(self, *arguments: str) -> str:
        command = [self.helm.binary, "--namespace", NAMESPACE, *arguments]
        environment = os.environ | {"KUBECONFIG": str(self.plane.kubeconfig)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def upgrade(self, *arguments: str) -> str:
        return self.run("upgrade", "--install", "slipway", str(CHART), *arguments)


@pytest.fixture(scope="module")
def release(empty_plane: ControlPlane, helm: Helm) -> Release:
    made = Release(helm, empty_plane)
    made.upgrade()
    return made


@pytest.fixture
def can(empty_plane: ControlPlane, release: Release) -> Callable[..., bool]:
    def ask(verb: str, resource: str, namespace: str, subresource: str = "") -> bool:
        command = ["auth", "can-i", verb, resource, "--namespace", namespace, "--as", ACCOUNT]
        try:
            return empty_plane.kubectl(*command, "--subresource", subresource).strip() == "yes"
        except subprocess.CalledProcessError as error:
            if error.stdout.strip() != "no":
                raise
            return False

    return ask


def test_invariant_h_the_account_may_do_its_work_and_read_no_secret(can) -> None:
    assert can("create", "jobs.batch", "team-a")
    assert can("update", "trainingruns.slipway.dev", "team-a", "status")
    assert can("update", "leases.coordination.k8s.io/slipway-operator", NAMESPACE)
    assert not can("get", "secrets", "team-a")
    assert not can("create", "pods", "team-a", "exec")
    assert not can("update", "leases.coordination.k8s.io/other", NAMESPACE)
    assert not can("update", "trainingruns.slipway.dev", "team-a")


def test_watched_namespaces_take_the_rights_elsewhere_away(release: Release, can) -> None:
    release.upgrade("--set", "watchNamespaces={team-a}")
    assert can("create", "jobs.batch", "team-a")
    assert not can("list", "trainingruns.slipway.dev", "team-b")
    release.upgrade("--reset-values")
    assert can("list", "trainingruns.slipway.dev", "team-b")


def test_every_user_may_read_what_the_command_line_needs(empty_plane: ControlPlane, release: Release) -> None:
    command = ["get", "configmap", "slipway-client", "-n", "kube-public", "--as", "somebody"]
    assert "slipway-client" in empty_plane.kubectl(*command, "--as-group", "system:authenticated")


class Ready(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/readyz" else 404)
        self.end_headers()


@pytest.fixture
def ready_operator() -> Iterator[str]:
    with served(Ready) as address:
        yield address


def test_what_helm_test_asks_is_answered(release: Release, ready_operator: str, tmp_path: Path) -> None:
    """Without a node no pod runs: its script runs here, with the pod's own account."""
    plane = release.plane
    account = [m for m in release.helm.render().manifests if m["metadata"]["name"] == "slipway-test"]
    hooks = {"apiVersion": "v1", "kind": "List", "items": [m for m in account if m["kind"] != "Pod"]}
    plane.kubectl("apply", "-f", "-", stdin=json.dumps(hooks))
    (tmp_path / "token").write_text(plane.kubectl("create", "token", "slipway-test", "--namespace", NAMESPACE))
    cluster = yaml.safe_load(plane.kubeconfig.read_text())["clusters"][0]["cluster"]
    (tmp_path / "ca.crt").write_bytes(base64.b64decode(cluster["certificate-authority-data"]))
    environment = {
        "ACCOUNT": str(tmp_path),
        "SERVER": cluster["server"],
        "OPERATOR": ready_operator,
        "NAMESPACE": NAMESPACE,
        "NO_PROXY": "*",
    }
    script = CHART / "files" / "smoke_test.py"
    done = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("ok: ") == 3
    assert len(done.stdout.splitlines()) == 3, "the words of the refusal that is wanted read as a failure"


class LetInLater(Ready):
    """As a network answers for an operator until it has heard of the pod that asks."""

    asked: ClassVar[int] = 0

    def do_GET(self) -> None:
        type(self).asked += 1
        if self.asked > 2:
            super().do_GET()


def test_helm_test_waits_until_a_network_lets_its_pod_in(release: Release, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("nobody")
    cluster = yaml.safe_load(release.plane.kubeconfig.read_text())["clusters"][0]["cluster"]
    (tmp_path / "ca.crt").write_bytes(base64.b64decode(cluster["certificate-authority-data"]))
    environment = {"ACCOUNT": str(tmp_path), "SERVER": cluster["server"], "NAMESPACE": NAMESPACE, "NO_PROXY": "*"}
    script = CHART / "files" / "smoke_test.py"
    with served(LetInLater) as address:
        environment["OPERATOR"] = address
        done = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True)
    assert "ok: the operator is ready: 200, wanted 200" in done.stdout, done.stdout + done.stderr
    assert LetInLater.asked == 3


def test_helm_test_says_what_it_found_instead(release: Release, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("nobody")
    cluster = yaml.safe_load(release.plane.kubeconfig.read_text())["clusters"][0]["cluster"]
    (tmp_path / "ca.crt").write_bytes(base64.b64decode(cluster["certificate-authority-data"]))
    environment = {
        "ACCOUNT": str(tmp_path),
        "SERVER": cluster["server"],
        "OPERATOR": "http://127.0.0.1:9",
        "NAMESPACE": NAMESPACE,
        "PATIENCE": "0",
        "NO_PROXY": "*",
    }
    script = CHART / "files" / "smoke_test.py"
    done = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "FAILED: the operator is ready: no answer, wanted 200" in done.stdout
    assert "Connection refused" in done.stdout
    assert "FAILED: a good run is taken: 401, wanted 201" in done.stdout
    assert '"reason":"Unauthorized"' in done.stdout


def test_runs_outlive_the_chart_and_it_can_be_installed_again(empty_plane: ControlPlane, release: Release) -> None:
    empty_plane.api.create(RUN, "team-a")
    release.run("uninstall", "slipway")
    assert empty_plane.api.get(TRAINING_RUN, "team-a", "kept") is not None
    release.upgrade()
    assert empty_plane.api.get(TRAINING_RUN, "team-a", "kept") is not None
