"""Who reaches whom, on a network that enforces NetworkPolicies: those of the chart, of an endpoint, and the one that
docs/install.md gives to namespaces which deny by default.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import yaml
from tests.e2e.cluster import runs
from tests.e2e.cluster.kube import Document, Kube, wait
from tests.e2e.cluster.namespaces import namespace
from tests.programs import program
from tests.unit.chart.rendering import CHART

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1200)]

ENDPOINT, PORT, OPERATOR_PORT = "walled", 8000, 8080
IMAGE = "slipway-operator:dev"
SYNC_SECONDS = 60
"""What the network may take to hear of a pod or a policy."""
CLIENT = {"app": "client"}
UNENFORCED = "slipway.dev/network-policies-unenforced"
"""What the test cluster writes on its node where it leaves the machine's own firewall alone, and why."""
PROBE = """
import socket, sys
(host, port) = sys.argv[1:]
address = socket.getaddrinfo(host, port, socket.AF_INET, socket.SOCK_STREAM)[0][4]
try:
    socket.create_connection(address, 3)
except (TimeoutError, ConnectionRefusedError):
    print("barred")
else:
    print("there")
"""
"""A network bars by no answer, or by a refusal. Whatever else goes wrong ends it with a traceback."""


def deny_by_default() -> Document:
    spec = {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "deny"}, "spec": spec}


def documented() -> Document:
    """The policy of docs/install.md for training pods, in whichever namespace it is applied."""
    text = (CHART.parents[1] / "docs" / "install.md").read_text()
    (block,) = re.findall(r"```yaml\n(apiVersion: networking\.k8s\.io/v1\n.*?)```", text, re.DOTALL)
    policy = yaml.safe_load(block)
    del policy["metadata"]["namespace"]
    return policy


def clients_may_go_out() -> Document:
    spec = {"podSelector": {"matchLabels": CLIENT}, "policyTypes": ["Egress"], "egress": [{}]}
    name = {"name": "clients"}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": name, "spec": spec}


@dataclass(frozen=True)
class Client:
    """A pod that asks others."""

    kube: Kube
    pod: str
    container: str

    def asks(self, host: str, port: int) -> bool:
        """Whether a connection comes about. An attempt that tells nothing is no answer."""
        try:
            answer = self.kube.run(
                "exec", self.pod, "-c", self.container, "--", "python3", "-c", PROBE, host, str(port)
            ).strip()
        except AssertionError as failed:
            answer = str(failed)
        if answer not in ("there", "barred"):
            pytest.fail(f"{self} asked {host}:{port}, which told nothing: {answer}")
        return answer == "there"

    def never_reaches(self, host: str, port: int) -> None:
        wait(lambda: not self.asks(host, port), f"{self} to be kept from {host}:{port}", SYNC_SECONDS)

    def reaches(self, host: str, port: int) -> None:
        wait(lambda: self.asks(host, port), f"{self} to reach {host}:{port}", SYNC_SECONDS)


def client(kube: Kube, name: str = "client", labels: dict[str, str] = CLIENT) -> Client:
    security = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
    container = {
        "name": "client",
        "image": IMAGE,
        "imagePullPolicy": "IfNotPresent",
        # It listens as well, so that others have somewhere to go.
        "command": ["python3", "-m", "http.server", "9000", "--directory", "/tmp"],
        "securityContext": security,
    }
    spec = {
        "terminationGracePeriodSeconds": 1,
        "automountServiceAccountToken": False,
        "securityContext": {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
    }
    kube.run("delete", "pod", name, "--ignore-not-found", "--wait")
    kube.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels}, "spec": spec})
    running = lambda: kube.status("pod", name).get("phase") == "Running"  # noqa: E731
    wait(running, f"the pod {name} to run", 60, lambda: kube.run("describe", "pod", name))
    return Client(kube, name, "client")


def address(kube: Kube, pod: str) -> str:
    return kube.status("pod", pod)["podIP"]


@pytest.fixture(scope="module")
def place(kube: Kube) -> Iterator[Kube]:
    """A namespace that denies by default, with what the documentation adds for training."""
    with namespace("e2e-network", kube.program) as made:
        made.apply(deny_by_default(), documented(), clients_may_go_out())
        yield made


@pytest.fixture(scope="module")
def elsewhere(kube: Kube) -> Iterator[Client]:
    """A pod that others reach, and so those from which it is not are kept from it."""
    with namespace("e2e-elsewhere", kube.program) as made:
        found = client(made)
        client(made, "beside").reaches(address(made, found.pod), 9000)
        yield found


@pytest.fixture(scope="module")
def walled(place: Kube, elsewhere: Client) -> Client:
    """A pod of the namespace that is kept from everything: what all else here rests upon."""
    for node in place.list("nodes"):
        if why := node["metadata"].get("annotations", {}).get(UNENFORCED):
            pytest.skip(f"this cluster enforces no NetworkPolicy: {why}")
    kept = client(place, "kept", {})
    there = address(elsewhere.kube, elsewhere.pod)
    try:
        kept.never_reaches(there, 9000)
    except AssertionError:
        pytest.fail(
            "the network of this cluster enforces no NetworkPolicy: make cluster-status, log/netpol.log", pytrace=False
        )
    return kept


@pytest.fixture(scope="module")
def served(place: Kube, walled: Client) -> dict[str, Any]:
    """A run over two pods that went live there, and what the operator saw of its training meanwhile."""
    run = runs.two_nodes("netted", ENDPOINT)
    run["spec"]["stages"][0]["steps"] = 300
    place.apply(run)
    seen = wait(lambda: trains(place), "progress of the two pods", 400, lambda: place.why("netted"))
    return {"run": place.wait_for_phase("netted", "Serving", seconds=600), "seen": seen}


def trains(kube: Kube) -> Document | None:
    for stage in kube.status("trainingrun", "netted").get("stages", []):
        if stage["state"] == "Running" and stage.get("progress", {}).get("step", 0) > 0:
            return stage
    return None


def test_H_two_pods_train_and_a_model_goes_live_where_everything_is_denied_by_default(served) -> None:
    """Ranks meet, the operator reads their progress and asks the candidate its prompt."""
    assert served["seen"]["nodes"] == 2
    assert served["run"]["status"]["evaluation"]["verdict"] == "Pass"


def test_helm_test_says_that_the_chart_is_well_and_says_it_once(system: Kube) -> None:
    command = [program("helm"), "-n", system.namespace, "test", "slipway", "--logs", "--timeout", "2m"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (done.stdout.count("POD LOGS"), done.stdout.count("ok: ")) == (1, 3), done.stdout


def server_of(kube: Kube) -> Client:
    version = kube.status("modelendpoint", ENDPOINT)["live"]["version"]
    (pod,) = kube.list("pods", f"slipway.dev/endpoint={ENDPOINT},slipway.dev/version={version}")
    return Client(kube, pod["metadata"]["name"], "server")


def test_H_an_endpoint_without_a_key_is_reached_from_its_own_namespace_and_the_operators_alone(
    place: Kube, system: Kube, elsewhere: Client, served
) -> None:
    host, pod = f"{ENDPOINT}.{place.namespace}.svc", address(place, server_of(place).pod)
    inside = client(place)
    inside.reaches(host, PORT)
    inside.reaches(pod, PORT)
    operators = client(system)
    try:
        operators.reaches(host, PORT)
    finally:
        system.run("delete", "pod", operators.pod, "--wait=false")
    elsewhere.never_reaches(host, PORT)
    elsewhere.never_reaches(pod, PORT)


def test_H_a_server_reaches_names_and_nobody_else(place: Kube, elsewhere: Client, served) -> None:
    server = server_of(place)
    script = "import socket; print(socket.getaddrinfo('kubernetes.default.svc', 443)[0][4][0])"
    api = place.run("exec", server.pod, "-c", "server", "--", "python3", "-c", script).strip()
    elsewhere.reaches(api, 443)
    server.never_reaches(api, 443)
    server.never_reaches(address(elsewhere.kube, elsewhere.pod), 9000)


def test_H_the_operator_reaches_the_api_server_and_pods_of_ours_alone(
    place: Kube, system: Kube, elsewhere: Client, served
) -> None:
    pod = system.list("pods", "app.kubernetes.io/component=operator")[0]["metadata"]["name"]
    operator = Client(system, pod, "operator")
    operator.reaches("kubernetes.default.svc", 443)
    operator.reaches(address(place, server_of(place).pod), PORT)
    operator.never_reaches(address(elsewhere.kube, elsewhere.pod), 9000)
    elsewhere.reaches("slipway-operator.slipway-system.svc", OPERATOR_PORT)


def test_an_endpoint_that_is_meant_for_all_is_reached_from_everywhere(place: Kube, elsewhere: Client, served) -> None:
    patch = '{"spec":{"access":{"anonymous":true},"rollout":{"probation":"1s"}}}'
    before = place.status("modelendpoint", ENDPOINT)["live"]["version"]
    place.run("patch", "modelendpoint", ENDPOINT, "--type=merge", "-p", patch)
    live = lambda: place.status("modelendpoint", ENDPOINT)["live"]["version"] > before  # noqa: E731
    wait(live, "the version that is meant for all", 300, lambda: place.why("netted"))
    # The version before wants its own namespace alone, and the policy is one for both until it has ended.
    wait(lambda: len(place.list("pods", f"slipway.dev/endpoint={ENDPOINT}")) == 1, "the version before to end", 300)
    elsewhere.reaches(f"{ENDPOINT}.{place.namespace}.svc", PORT)
