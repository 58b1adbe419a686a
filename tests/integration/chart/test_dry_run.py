"""A real API server takes all that the chart makes, under Pod Security `restricted`."""

import json
import subprocess
from collections.abc import Iterator

import pytest
from tests.integration.control_plane import ControlPlane
from tests.unit.chart.rendering import CASES, NAMESPACE, Helm, Manifest

_MONITORS = "monitoring.coreos.com/"


def refusals(plane: ControlPlane, manifests: list[Manifest]) -> str:
    """What the API server says to them in a dry run, if it does not take them all; warnings count."""
    everything = {"apiVersion": "v1", "kind": "List", "items": manifests}
    command = ["apply", "--dry-run=server", "--validate=strict", "--warnings-as-errors", "-f", "-"]
    try:
        plane.kubectl(*command, stdin=json.dumps(everything))
    except subprocess.CalledProcessError as error:
        return error.stderr
    return ""


@pytest.fixture(scope="module")
def accounts(empty_plane: ControlPlane) -> Iterator[None]:
    """A pod is refused while its account is not there, and a dry run makes none."""
    names = {"slipway-operator", "slipway-test", "training-operator", "training-test"}
    # A release of other tests brings some of them, and keeps them.
    there = empty_plane.kubectl("get", "serviceaccounts", "--namespace", NAMESPACE, "-o", "name").split()
    missing = sorted(names - {name.removeprefix("serviceaccount/") for name in there})
    for name in missing:
        empty_plane.kubectl("create", "serviceaccount", name, "--namespace", NAMESPACE)
    yield
    empty_plane.kubectl("delete", "serviceaccount", *missing, "--namespace", NAMESPACE)


@pytest.mark.usefixtures("accounts")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_invariant_h_the_api_server_takes_all_of_the_chart_as_restricted(empty_plane, helm: Helm, case) -> None:
    chart = helm.render(None, case)
    # The Prometheus operator's kinds are not here; the unit tests look at them.
    known = [manifest for manifest in chart.manifests if not manifest["apiVersion"].startswith(_MONITORS)]
    (deployment,) = chart.all("Deployment")
    template = deployment["spec"]["template"]
    # Pod Security judges pods: a Deployment is taken whatever its pods are.
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "operator", "namespace": NAMESPACE, **template["metadata"]},
        "spec": template["spec"],
    }
    assert refusals(empty_plane, [*known, pod]) == ""


@pytest.mark.usefixtures("accounts")
def test_invariant_h_a_pod_that_is_not_restricted_is_refused(empty_plane, helm: Helm) -> None:
    pod = helm.render().one("Pod", "slipway-test")
    del pod["spec"]["securityContext"]
    assert "violates PodSecurity" in refusals(empty_plane, [pod])
