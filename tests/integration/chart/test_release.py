"""Install, upgrade and uninstall on a real API server: what the account may do, and what stays."""

import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from tests.integration.control_plane import ControlPlane
from tests.unit.chart.rendering import CHART, NAMESPACE, Helm

from slipway_operator.kinds import TRAINING_RUN

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
            assert error.stdout.strip() == "no", error.stderr
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


def test_runs_outlive_the_chart_and_it_can_be_installed_again(empty_plane: ControlPlane, release: Release) -> None:
    empty_plane.api.create(RUN, "team-a")
    release.run("uninstall", "slipway")
    assert empty_plane.api.get(TRAINING_RUN, "team-a", "kept") is not None
    release.upgrade()
    assert empty_plane.api.get(TRAINING_RUN, "team-a", "kept") is not None
