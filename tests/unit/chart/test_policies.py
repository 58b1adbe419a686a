"""The policies say what the code does: whose account, which label, which names.

What they forbid a real API server shows (tests/integration/chart/test_admission_policies.py)."""

import json

import pytest
from tests.unit.chart.rendering import Helm, Manifest

from slipway.cluster.client_settings import ClientSettings
from slipway.cluster.pods.helper_pod import HelperPod
from slipway_core.rollout.promotion import (
    APPROVED_BY_ANNOTATION,
    APPROVED_DIGEST_ANNOTATION,
    APPROVED_EVALUATION_ANNOTATION,
    APPROVED_RUN_ANNOTATION,
)
from slipway_operator import names

ALWAYS = ("slipway-approval", "slipway-objects", "slipway-records", "slipway-exec", "slipway-priority")
LIST = {"admissionPolicies": {"acceptUnjudged": ["ops"]}}


def policies(chart) -> dict[str, Manifest]:
    return {one["metadata"]["name"]: one for one in chart.all("ValidatingAdmissionPolicy")}


def test_they_are_there_unless_they_are_switched_off(helm: Helm) -> None:
    assert sorted(policies(helm.render())) == sorted(ALWAYS)
    assert sorted(policies(helm.render(LIST))) == sorted([*ALWAYS, "slipway-unjudged"])
    without = helm.render({"admissionPolicies": {"enabled": False}})
    assert (policies(without), without.all("ValidatingAdmissionPolicyBinding")) == ({}, [])
    roles = [role["metadata"]["name"] for role in without.all("ClusterRole")]
    assert not {"slipway-restore", "slipway-approver"} & set(roles)


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
    approval = json.dumps(found["slipway-approval"]["spec"])
    for annotation in (
        APPROVED_BY_ANNOTATION, APPROVED_DIGEST_ANNOTATION, APPROVED_EVALUATION_ANNOTATION, APPROVED_RUN_ANNOTATION,
    ):  # fmt: skip
        assert f"'{annotation}'" in approval
        assert annotation.startswith("slipway.dev/approved-")


def test_the_verb_approve_is_in_a_role_of_its_own_that_nobody_has(helm: Helm) -> None:
    chart = helm.render()
    roles = {role["metadata"]["name"]: role for role in chart.all("ClusterRole")}
    assert [name for name, role in roles.items() if any("approve" in rule["verbs"] for rule in role["rules"])] == [
        "slipway-approver"
    ]
    assert not any("aggregate" in label for label in roles["slipway-approver"]["metadata"]["labels"])
    bound = [one["roleRef"]["name"] for one in chart.all("ClusterRoleBinding")]
    assert "slipway-approver" not in bound


@pytest.mark.parametrize("role", ["upload", "read"])
def test_a_pod_of_the_command_line_is_none_of_theirs(role) -> None:
    metadata = HelperPod(role, "claim", writes=None, lifetime=1).manifest(ClientSettings("i"))["metadata"]
    assert metadata["labels"][names.MANAGED_BY] != names.MANAGED_BY_VALUE
    assert not metadata["generateName"].startswith((names.RUN_PREFIX, names.SERVE_PREFIX))
