"""What stands around the versions of an endpoint."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.operator.manifests.samples import a_deployment, a_version, an_endpoint

from slipway_core.resources.model_endpoint import Access
from slipway_core.resources.status import EndpointStatus
from slipway_operator import names
from slipway_operator.manifests.endpoint.autoscaler import autoscaler
from slipway_operator.manifests.endpoint.network_policy import network_policy
from slipway_operator.manifests.endpoint.pod_disruption_budget import pod_disruption_budget
from slipway_operator.manifests.endpoint.service import endpoint_service, frozen_versions, routed_version
from slipway_operator.settings import Settings


@pytest.mark.parametrize("version", [1, 12])
def test_the_service_sends_to_the_version_that_has_the_traffic(version: int) -> None:
    service = endpoint_service(an_endpoint(port=81), version)
    pods = a_deployment(an_endpoint(), a_version(number=version))["spec"]["template"]
    assert service["spec"]["selector"] == pods["metadata"]["labels"]
    assert service["spec"]["ports"][0]["port"] == 81
    assert service["spec"]["ports"][0]["targetPort"] == pods["spec"]["containers"][0]["ports"][0]["name"]
    assert routed_version(service) == version


def test_invariant_a_it_sends_to_nobody_until_a_version_has_the_traffic() -> None:
    service = endpoint_service(an_endpoint(), None)
    assert service["spec"]["selector"][names.VERSION] == "none"
    assert routed_version(service) is None
    assert routed_version(None) is None


def test_invariant_e_the_service_keeps_what_its_versions_are_made_of() -> None:
    made_of = {2: '{"version":2}', 11: '{"version":11}'}
    service = endpoint_service(an_endpoint(), 11, made_of)
    service["metadata"]["annotations"] |= {"slipway.dev/frozen": "{}", "somebody.else/frozen-v7": "{}"}
    assert frozen_versions(service) == made_of
    assert "annotations" not in endpoint_service(an_endpoint(), 11)["metadata"]


def test_invariant_b_an_eviction_leaves_one_that_answers() -> None:
    spec = pod_disruption_budget(an_endpoint(), 3)["spec"]
    assert spec["minAvailable"] == 1
    assert spec["unhealthyPodEvictionPolicy"] == "AlwaysAllow"
    assert spec["selector"]["matchLabels"] == names.version_labels("chat", 3)


@pytest.mark.parametrize(
    ("live", "wanted", "https"),
    [
        ("pvc://c/a", "pvc://c/b", False),
        ("pvc://c/a", "s3://models/b", True),
        ("hf://org/a", "pvc://c/b", True),
    ],
)
def test_the_way_out_is_open_while_a_model_may_be_fetched(live: str, wanted: str, https: bool) -> None:
    endpoint = an_endpoint(model={"uri": wanted})
    endpoint = endpoint.model_copy(update={"status": EndpointStatus(live=a_version(uri=live))})
    ports = {port["port"] for rule in network_policy(endpoint, Settings())["spec"]["egress"] for port in rule["ports"]}
    assert ports == ({53, 443} if https else {53})


ALL = [{"namespaceSelector": {}}]
OWN = {"podSelector": {}}
OPERATORS = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "slipway-system"}}}
MONITORING = {"namespaceSelector": {"matchLabels": {"team": "monitoring"}}}
KEYS, EVERYBODY = Access(keys_secret="keys"), Access(anonymous=True)


@pytest.mark.parametrize(
    ("access", "running", "admitted"),
    [
        ({"keysSecret": "keys"}, [], ALL),
        ({"anonymous": True}, [], ALL),
        ({}, [], [OWN, OPERATORS]),
        ({"anonymous": True}, [KEYS, EVERYBODY], ALL),
        ({"keysSecret": "keys"}, [Access()], [OWN, OPERATORS]),
        ({}, [KEYS], [OWN, OPERATORS]),
    ],
)
def test_invariant_h_an_endpoint_without_keys_answers_other_namespaces_only_where_somebody_said_so(
    access: dict[str, Any], running: list[Access], admitted: list[dict[str, Any]]
) -> None:
    spec = network_policy(an_endpoint(access=access), Settings(), running)["spec"]
    assert spec["ingress"] == [{"from": admitted, "ports": [{"protocol": "TCP", "port": "http"}]}]
    assert spec["podSelector"]["matchLabels"].items() <= names.version_labels("chat", 9).items()


def admitted_with(*metrics_from: dict[str, Any], namespace: str = "slipway-system") -> list[dict[str, Any]]:
    settings = Settings.model_validate(
        {"networkPolicy": {"metricsFrom": metrics_from}, "lease": {"namespace": namespace}}, by_alias=True
    )
    return network_policy(an_endpoint(), settings)["spec"]["ingress"][0]["from"]


@pytest.mark.parametrize(
    ("peer", "admitted"),
    [
        (MONITORING, MONITORING),
        ({"namespaceSelector": {"matchLabels": {}}}, {"namespaceSelector": {}}),
        ({"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}}, None),
        ({"namespaceSelector": {"matchExpressions": [{"key": "team", "operator": "Exists"}]}}, None),
        ({**MONITORING, "podSelector": {"matchLabels": {"app": "prometheus"}}}, None),
        # In the operator's own policy this means its namespace; here it would be the endpoint's.
        (
            {"podSelector": {"matchLabels": {"app": "prometheus"}}},
            {**OPERATORS, "podSelector": {"matchLabels": {"app": "prometheus"}}},
        ),
    ],
)
def test_who_reads_the_operators_metrics_reads_those_of_an_endpoint(
    peer: dict[str, Any], admitted: dict[str, Any] | None
) -> None:
    assert admitted_with(peer) == [OWN, OPERATORS, admitted or peer]


def test_the_operators_namespace_is_the_one_of_its_lease() -> None:
    other = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "ml-platform"}}}
    assert admitted_with(namespace="ml-platform") == [OWN, other]


def test_the_autoscaler_scales_the_version_that_has_the_traffic() -> None:
    scaling = {"minReplicas": 2, "maxReplicas": 6, "targetCpuPercent": 70}
    found = autoscaler(an_endpoint(autoscaling=scaling), names.version("chat", 3))
    assert found is not None
    assert found["spec"]["scaleTargetRef"]["name"] == a_deployment(an_endpoint())["metadata"]["name"]
    assert (found["spec"]["minReplicas"], found["spec"]["maxReplicas"]) == (2, 6)
    assert found["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"] == 70


def test_without_autoscaling_there_is_no_autoscaler() -> None:
    assert autoscaler(an_endpoint(), "chat-v3") is None
