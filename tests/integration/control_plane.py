"""A real API server for a test session: etcd, the control plane, and KWOK in the place of nodes."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml
from tests.integration.api_client import ApiClient, eventually
from tests.programs import build, program

from slipway.local.processes import die_with_parent
from slipway_operator.kube.kinds import Kind

ROOT = Path(__file__).parents[2]
STAGES = ROOT / "tests/integration/operator/kwok/stages.yaml"
_SCRIPT = ROOT / "tools/testcluster/control-plane.sh"
_DEFINITIONS = Kind(
    "apiextensions.k8s.io/v1", "CustomResourceDefinition", "customresourcedefinitions", namespaced=False
)


@dataclass(frozen=True)
class ControlPlane:
    state: Path

    @property
    def kubeconfig(self) -> Path:
        return self.state / "admin.kubeconfig"

    @property
    def operator_kubeconfig(self) -> Path:
        """Of the operator's service account: what the chart's roles do not give it, it has not."""
        return self.state / "operator.kubeconfig"

    @property
    def audit_log(self) -> Path:
        return self.state / "log/audit.jsonl"

    @cached_property
    def api(self) -> ApiClient:
        """The API server, as its administrator."""
        return ApiClient(self.kubeconfig)

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Returns what kubectl prints. Raises CalledProcessError with what it complains about."""
        command = [program("kubectl"), "--kubeconfig", self.kubeconfig, *arguments]
        return subprocess.run(command, input=stdin, text=True, capture_output=True, check=True, timeout=60).stdout

    def writes(self) -> list[dict[str, Any]]:
        """Returns the audit log: every write that was answered, in order."""
        return [json.loads(line) for line in self.audit_log.read_text().splitlines() if line]


@contextmanager
def started(state: Path, *, nodes: int = 1, qps: int = 200) -> Iterator[ControlPlane]:
    """Starts one in a folder of its own, with our CRDs and the operator's roles, and stops it in the end."""
    plane = ControlPlane(state)
    with _stopped_in_the_end(state):
        _start(state, "--kwok-config", STAGES, "--nodes", nodes, "--qps", qps)
        try:
            define(plane)
            _permit(plane)
            yield plane
        finally:
            if "api" in vars(plane):
                plane.api.close()


def helm_template(*templates: str, values: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
    """Returns what some templates of the chart become with Kueue enabled, and with these values."""
    build("helm")
    only = [argument for template in templates for argument in ("--show-only", f"templates/{template}")]
    command = [program("helm"), "template", "slipway", ROOT / "charts/slipway", "--namespace", "slipway-system", *only]
    command += ["--values", "-"]
    given = json.dumps({"kueue": {"enabled": True}, **(values or {})})
    text = subprocess.run(command, input=given, text=True, capture_output=True, check=True, timeout=60).stdout
    return [document for document in yaml.safe_load_all(text) if document]


def define(plane: ControlPlane) -> None:
    """Makes our CRDs, and waits until the API server has them."""
    for file in sorted((ROOT / "charts/slipway/crds-generated").glob("*.yaml")):
        plane.api.apply(yaml.safe_load(file.read_text()))
    for name in ("trainingruns.slipway.dev", "modelendpoints.slipway.dev"):
        eventually(lambda name=name: _established(plane, name), f"{name} is established")


def _established(plane: ControlPlane, name: str) -> bool:
    found = plane.api.get(_DEFINITIONS, None, name) or {}
    conditions = found.get("status", {}).get("conditions") or []
    return any(one["type"] == "Established" and one["status"] == "True" for one in conditions)


def _permit(plane: ControlPlane) -> None:
    plane.api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "slipway-system"}})
    chart = helm_template(
        "operator-role.yaml",
        "lease-role.yaml",
        "signing-role.yaml",
        "user-roles.yaml",
        "restore-role.yaml",
        "admission-policies.yaml",
        "approval-policy.yaml",
    )
    for manifest in [*chart, *_any_lease()]:
        plane.api.apply(manifest, manifest["metadata"].get("namespace"))


def _any_lease() -> list[dict[str, Any]]:
    """The chart lets the operator have one Lease; those of the tests have one each, so that none waits for another."""
    metadata = {"name": "any-lease", "namespace": "slipway-system"}
    rule = {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["create", "get", "update"]}
    operator = {"kind": "ServiceAccount", "name": "slipway-operator", "namespace": "slipway-system"}
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "any-lease"}
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": metadata, "rules": [rule]}
    binding = {**role, "kind": "RoleBinding", "roleRef": reference, "subjects": [operator]}
    del binding["rules"]
    return [role, binding]


def _start(state: Path, *options: object) -> None:
    command = [_SCRIPT, "up", state, *map(str, options)]
    # A new machine builds the programs first.
    ending = die_with_parent(signal.SIGTERM)
    done = subprocess.run(command, text=True, capture_output=True, timeout=1700, preexec_fn=ending)
    if done.returncode:
        raise RuntimeError(f"{_SCRIPT.name} up: {done.stderr[-2000:]}")


@contextmanager
def _stopped_in_the_end(state: Path) -> Iterator[None]:
    """Stops it, also when this process is killed: then a pipe closes for whose end a process of its own waits."""
    log = state.with_name(f"{state.name}-down.log")
    log.parent.mkdir(parents=True, exist_ok=True)
    command = ["sh", "-c", 'cat && exec "$0" down "$1"', _SCRIPT, state]
    with log.open("wb") as output:
        waiting = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        yield
    finally:
        waiting.communicate(timeout=60)
        if waiting.returncode:
            raise RuntimeError(f"{_SCRIPT.name} down: {log.read_text()[-2000:]}")
