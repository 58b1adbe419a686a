"""What the chart's own pods are allowed to be and to reach."""

import pytest
import yaml
from tests.unit.chart.rendering import CASES, CHART, NAMESPACE, Helm, Manifest, Rendered

DIGEST = "sha256:" + "7" * 64


def deployment(chart: Rendered) -> Manifest:
    (found,) = chart.all("Deployment")
    return found["spec"]


def pods(chart: Rendered) -> list[Manifest]:
    return [deployment(chart)["template"]["spec"], *(pod["spec"] for pod in chart.all("Pod"))]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_invariant_h_every_pod_is_restricted_with_a_read_only_root(helm: Helm, case) -> None:
    for pod in pods(helm.render(None, case)):
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] == 65532
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
                "privileged": False,
                "readOnlyRootFilesystem": True,
            }
            assert container["resources"]["requests"]
            assert container["resources"]["limits"]["memory"]


def test_two_replicas_stand_apart_and_a_drain_takes_one_at_a_time(helm: Helm) -> None:
    chart = helm.render()
    spec = deployment(chart)
    assert spec["replicas"] == 2
    selector = spec["selector"]["matchLabels"]
    apart = spec["template"]["spec"]["affinity"]["podAntiAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
    assert apart[0]["podAffinityTerm"]["labelSelector"]["matchLabels"] == selector
    budget = chart.one("PodDisruptionBudget", "slipway-operator")["spec"]
    assert budget["selector"]["matchLabels"] == selector
    assert budget["maxUnavailable"] == 1
    assert chart.one("Service", "slipway-operator")["spec"]["selector"] == selector


def test_probes_ask_the_port_that_the_operator_listens_at(helm: Helm) -> None:
    (container,) = deployment(helm.render({"operator": {"port": 9090}}))["template"]["spec"]["containers"]
    assert container["ports"] == [{"name": "http", "containerPort": 9090}]
    assert container["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": "http"}
    assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "http"}
    assert container["args"] == ["--config", "/etc/slipway/config.yaml"]


def test_a_digest_wins_over_a_tag(helm: Helm) -> None:
    values = {"images": {"registry": "r.example.com/x/", "operator": {"tag": "1", "digest": DIGEST}}}
    for pod in pods(helm.render(values)):
        assert pod["containers"][0]["image"] == f"r.example.com/x/slipway-operator@{DIGEST}"


def test_pull_secrets_reach_every_pod(helm: Helm) -> None:
    for pod in pods(helm.render({"images": {"pullSecrets": ["one", "two"]}})):
        assert pod["imagePullSecrets"] == [{"name": "one"}, {"name": "two"}]


def test_the_operator_is_reached_at_its_port_alone_and_reaches_slipways_pods(helm: Helm) -> None:
    policy = helm.render().one("NetworkPolicy", "slipway-operator")["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert policy["ingress"] == [{"ports": [{"port": "http"}]}]
    dns, api, to_pods = policy["egress"]
    assert {port["port"] for port in dns["ports"]} == {53}
    assert api == {"ports": [{"port": 443}, {"port": 6443}]}
    assert to_pods["to"] == [
        {
            "namespaceSelector": {},
            "podSelector": {"matchLabels": {"app.kubernetes.io/managed-by": "slipway"}},
        }
    ]


def test_metrics_may_be_kept_to_one_namespace_and_helm_test_still_gets_in(helm: Helm) -> None:
    monitoring = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
    chart = helm.render({"networkPolicy": {"metricsFrom": [monitoring]}})
    (rule,) = chart.one("NetworkPolicy", "slipway-operator")["spec"]["ingress"]
    labels = chart.one("Pod", "slipway-test")["metadata"]["labels"]
    assert rule["from"][0] == monitoring
    assert rule["from"][1]["podSelector"]["matchLabels"].items() <= labels.items()


def test_watched_namespaces_limit_what_the_operator_reaches(helm: Helm) -> None:
    policy = helm.render({"watchNamespaces": ["a", "b"]}).one("NetworkPolicy", "slipway-operator")["spec"]
    (peer,) = policy["egress"][2]["to"]
    assert peer["namespaceSelector"]["matchExpressions"][0]["values"] == ["a", "b"]


def test_helm_test_is_one_hook_so_that_its_log_is_shown_once(helm: Helm) -> None:
    """`helm test --logs` shows the log of the pod that a hook is called like, for every hook, whatever it is."""
    done = helm.run("template", "slipway", CHART, "--namespace", NAMESPACE)
    found = [one for one in yaml.load_all(done.stdout, Loader=yaml.CSafeLoader) if one]
    hooks = [one for one in found if "helm.sh/hook" in one["metadata"].get("annotations", {})]
    assert [(one["kind"], one["metadata"]["name"]) for one in hooks] == [("List", "slipway-test")]
    kinds = [one["kind"] for one in hooks[0]["items"]]
    assert kinds == ["ServiceAccount", "Role", "RoleBinding", "Pod"], "made in this order"
    # Argo CD takes the List apart.
    for one in hooks[0]["items"]:
        assert one["metadata"]["annotations"] == hooks[0]["metadata"]["annotations"], one["kind"]
