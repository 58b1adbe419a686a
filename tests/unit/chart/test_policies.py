"""The policies say what the code does: whose account, which label, which names.

What they forbid a real API server shows (tests/integration/chart/test_admission_policies.py)."""

import json

import pytest
from tests.unit.chart.rendering import Helm, Manifest

from slipway.cluster.client_settings import ClientSettings
from slipway.cluster.pods.helper_pod import HelperPod
from slipway_operator import names

ALWAYS = ("slipway-objects", "slipway-records", "slipway-exec", "slipway-priority")
LIST = {"admissionPolicies": {"acceptUnjudged": ["ops"]}}


def policies(chart) -> dict[str, Manifest]:
    return {one["metadata"]["name"]: one for one in chart.all("ValidatingAdmissionPolicy")}


def test_they_are_there_unless_they_are_switched_off(helm: Helm) -> None:
    assert sorted(policies(helm.render())) == sorted(ALWAYS)
    assert sorted(policies(helm.render(LIST))) == sorted([*ALWAYS, "slipway-unjudged"])
    without = helm.render({"admissionPolicies": {"enabled": False}})
    assert (policies(without), without.all("ValidatingAdmissionPolicyBinding")) == ({}, [])
    assert "slipway-restore" not in [role["metadata"]["name"] for role in without.all("ClusterRole")]


def test_each_is_bound_and_denies(helm: Helm) -> None:
    chart = helm.render(LIST)
    bindings = chart.all("ValidatingAdmissionPolicyBinding")
    assert sorted(one["spec"]["policyName"] for one in bindings) == sorted(policies(chart))
    assert all(one["spec"]["validationActions"] == ["Deny"] and "matchResources" not in one["spec"] for one in bindings)


def test_they_hold_where_the_operator_works(helm: Helm) -> None:
    for binding in helm.render({"watchNamespaces": ["team-a"], **LIST}).all("ValidatingAdmissionPolicyBinding"):
        (selected,) = binding["spec"]["matchResources"]["namespaceSelector"]["matchExpressions"]
        assert selected == {"key": "kubernetes.io/metadata.name", "operator": "In", "values": ["team-a"]}


@pytest.mark.parametrize("name", ALWAYS)
def test_the_operators_account_is_trusted_whatever_it_is_called(helm: Helm, name: str) -> None:
    chart = helm.render({"serviceAccount": {"name": "captain"}})
    trusted = policies(chart)[name]["spec"]["variables"][0]["expression"]
    assert '"system:serviceaccount:slipway-system:captain"' in trusted
    assert ("kueue" in trusted) == (name == "slipway-objects")


def test_their_words_are_those_of_the_code(helm: Helm) -> None:
    found = policies(helm.render())
    text = json.dumps(found["slipway-objects"]["spec"]["matchConditions"])
    assert f"'{names.MANAGED_BY}'" in text
    assert f"'{names.MANAGED_BY_VALUE}'" in text
    executed = found["slipway-exec"]["spec"]["matchConditions"][0]["expression"]
    for prefix in (names.RUN_PREFIX, names.SERVE_PREFIX):
        assert f"startsWith('{prefix}')" in executed
    assert names.verdict("sha256:" + "a" * 64).startswith("slipway-verdict-")


@pytest.mark.parametrize("role", ["upload", "read"])
def test_a_pod_of_the_command_line_is_none_of_theirs(role) -> None:
    metadata = HelperPod(role, "claim", writes=None, lifetime=1).manifest(ClientSettings("i"))["metadata"]
    assert metadata["labels"][names.MANAGED_BY] != names.MANAGED_BY_VALUE
    assert not metadata["generateName"].startswith((names.RUN_PREFIX, names.SERVE_PREFIX))
