"""The rights that the chart gives, one by one (invariant H), and that they are those of the calls that are made."""

import ast
import re
from collections.abc import Iterator

import pytest
import yaml
from tests.unit.chart.rendering import CASES, NAMESPACE, ROOT, Helm, Manifest

from slipway_operator.kube import kinds
from slipway_operator.kube.kinds import Kind

OPERATOR = "slipway-operator"
RIGHTS = {
    "slipway.dev/trainingruns": "delete get list watch",
    "slipway.dev/trainingruns/status": "update",
    "slipway.dev/modelendpoints": "create get list patch watch",
    "slipway.dev/modelendpoints/status": "update",
    "batch/jobs": "create delete get list watch",
    "pods": "list watch",
    "configmaps": "create delete get list update watch",
    "services": "create delete get list patch watch",
    "apps/deployments": "create delete get list patch watch",
    "persistentvolumeclaims": "create get list watch",
    "policy/poddisruptionbudgets": "create delete get patch",
    "networking.k8s.io/networkpolicies": "create delete get patch",
    "autoscaling/horizontalpodautoscalers": "create delete get patch",
    "events": "create list",
}
QUEUE_RIGHTS = {"kueue.x-k8s.io/workloads": "list"}
LEASE_RIGHTS = {"coordination.k8s.io/leases": "create get update"}
SECRET_RIGHTS = {"secrets": "create get"}


def rights(role: Manifest) -> dict[str, str]:
    """The verbs of each resource; no resource stands in two rules."""
    found: dict[str, str] = {}
    for rule in role["rules"]:
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                name = f"{group}/{resource}".removeprefix("/")
                assert name not in found
                found[name] = " ".join(sorted(rule["verbs"]))
    return found


def test_invariant_h_the_cluster_role_has_these_rights_and_no_other(helm: Helm) -> None:
    chart = helm.render()
    assert rights(chart.one("ClusterRole", OPERATOR, None)) == RIGHTS
    binding = chart.one("ClusterRoleBinding", OPERATOR, None)
    assert binding["roleRef"]["name"] == OPERATOR
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": OPERATOR, "namespace": NAMESPACE}]


def test_invariant_h_reading_a_queue_is_a_right_that_must_be_asked_for(helm: Helm) -> None:
    chart = helm.render({"kueue": {"enabled": True}})
    assert rights(chart.one("ClusterRole", OPERATOR, None)) == RIGHTS | QUEUE_RIGHTS


def test_invariant_h_watched_namespaces_give_roles_there_and_nothing_cluster_wide(helm: Helm) -> None:
    chart = helm.render({"watchNamespaces": ["team-a", "team-b"]})
    for namespace in ("team-a", "team-b"):
        assert rights(chart.one("Role", OPERATOR, namespace)) == RIGHTS
        binding = chart.one("RoleBinding", OPERATOR, namespace)
        assert binding["roleRef"]["kind"] == "Role"
        assert binding["subjects"] == [{"kind": "ServiceAccount", "name": OPERATOR, "namespace": NAMESPACE}]
    assert chart.all("ClusterRoleBinding") == []


def test_invariant_h_the_lease_is_the_only_one_that_the_operator_may_touch(helm: Helm) -> None:
    role = helm.render().one("Role", "slipway-operator-lease")
    assert [(rule["resources"], rule.get("resourceNames"), rule["verbs"]) for rule in role["rules"]] == [
        (["leases"], None, ["create"]),
        (["leases"], ["slipway-operator"], ["get", "update"]),
    ]


def test_invariant_h_the_one_secret_that_the_operator_may_read_is_its_own_and_it_changes_none(helm: Helm) -> None:
    for values in ({}, {"watchNamespaces": ["team-a"]}):
        chart = helm.render(values)
        role = chart.one("Role", "slipway-operator-signing")
        assert [(rule["resources"], rule.get("resourceNames"), rule["verbs"]) for rule in role["rules"]] == [
            (["secrets"], None, ["create"]),
            (["secrets"], ["slipway-operator-signing-key"], ["get"]),
            (["configmaps"], None, ["create"]),
            (["configmaps"], ["slipway-operator-trusted-keys"], ["get", "update"]),
        ]
        binding = chart.one("RoleBinding", "slipway-operator-signing")
        assert binding["subjects"] == [{"kind": "ServiceAccount", "name": OPERATOR, "namespace": NAMESPACE}]
        assert chart.all("Secret") == [], "the chart makes none, so that no upgrade makes another key"


def test_every_user_may_see_whether_the_operator_is_at_work_and_no_other_lease(helm: Helm) -> None:
    chart = helm.render({"watchNamespaces": ["team-a"]})
    role = chart.one("Role", "slipway-client")
    assert [(rule["resources"], rule["resourceNames"], rule["verbs"]) for rule in role["rules"]] == [
        (["leases"], ["slipway-operator"], ["get"]),
        (["configmaps"], ["slipway-operator-trusted-keys"], ["get"]),
    ]
    assert chart.one("RoleBinding", "slipway-client")["subjects"][0]["name"] == "system:authenticated"
    told = chart.one("ConfigMap", "slipway-client", "kube-public")["data"]["client.yaml"]
    place = yaml.safe_load(told)["operator"]
    assert place == {
        "namespace": NAMESPACE,
        "lease": "slipway-operator",
        "watchNamespaces": ["team-a"],
        "trustedKeys": "slipway-operator-trusted-keys",
    }
    without = helm.render({"clientSettings": {"enabled": False}})
    assert "slipway-client" not in [role["metadata"]["name"] for role in without.all("Role")]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_invariant_h_no_role_has_a_wildcard_or_reaches_secrets_or_into_pods(helm: Helm, case) -> None:
    chart = helm.render(None, case)
    for role in (*chart.all("ClusterRole"), *chart.all("Role")):
        for rule in role["rules"]:
            assert "*" not in (*rule["apiGroups"], *rule["resources"], *rule["verbs"])
            reached = {*rule["resources"]} - ({"secrets"} if role["metadata"]["name"].endswith("-signing") else set())
            assert not {"secrets", "pods/exec", "pods/attach", "pods/portforward"} & reached
            assert not {"escalate", "bind", "impersonate"} & {*rule["verbs"]}


def test_users_roles_bind_nobody_and_can_be_left_out(helm: Helm) -> None:
    chart = helm.render()
    view, edit = (rights(chart.one("ClusterRole", f"slipway-{what}", None)) for what in ("view", "edit"))
    assert view == dict.fromkeys(view, "get list watch")
    assert edit.keys() == view.keys() == {"slipway.dev/modelendpoints", "slipway.dev/trainingruns"}
    assert [binding["metadata"]["name"] for binding in chart.all("ClusterRoleBinding")] == [OPERATOR]
    without = helm.render({"rbac": {"userRoles": False, "create": False}})
    # Whoever approves a model, or puts back a backup, under the admission policies needs one all the same.
    named = [role["metadata"]["name"] for role in without.all("ClusterRole")]
    assert sorted(named) == ["slipway-approver", "slipway-restore"]
    assert (
        helm.render({"rbac": {"userRoles": False, "create": False}, "admissionPolicies": {"enabled": False}}).all(
            "ClusterRole"
        )
        == []
    )
    assert [role["metadata"]["name"] for role in without.all("Role")] == [
        "slipway-client",
        "slipway-client",
        "slipway-test",
    ]


def test_the_documentation_has_the_same_table() -> None:
    rows = re.findall(r"^\| `([\w./-]+)` \| ([a-z, ]+) \|", (ROOT / "docs" / "install.md").read_text(), re.MULTILINE)
    assert {
        name: verbs.replace(",", "") for name, verbs in rows
    } == RIGHTS | QUEUE_RIGHTS | LEASE_RIGHTS | SECRET_RIGHTS


def resource(kind: Kind) -> str:
    return f"{kind.group}/{kind.plural}".removeprefix("/")


def test_what_is_watched_may_be_listed_and_watched() -> None:
    for kind in (*kinds.OWN, *kinds.CHILDREN):
        assert {"list", "watch"} <= {*RIGHTS[resource(kind)].split()}, kind.kind


def calls() -> Iterator[tuple[str, str, str]]:
    """(file, verb, resource) of every call to the cluster that names its kind."""
    verbs = {"get": "get", "list": "list", "pages": "list", "delete": "delete"}
    for path in sorted((ROOT / "operator" / "src").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Call(func=ast.Attribute(value=owner, attr=method), args=[ast.Name(id=name), *_]):
                    kind = getattr(kinds, name, None)
                    if method in verbs and isinstance(kind, Kind) and ast.unparse(owner).endswith("cluster"):
                        yield path.name, verbs[method], resource(kind)


def test_every_call_that_names_its_kind_is_allowed() -> None:
    allowed = RIGHTS | QUEUE_RIGHTS | LEASE_RIGHTS | SECRET_RIGHTS
    made = list(calls())
    assert len(made) > 10
    refused = [call for call in made if call[1] not in allowed.get(call[2], "").split()]
    assert refused == []
