"""Monitors find the pods, and alerts and the dashboard ask for metrics that exist."""

import json
import re
from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry
from tests.unit.chart.rendering import CHART, Helm

from slipway_core.resources.status import EndpointPhase, Phase, Verdict
from slipway_operator.cache.world import World
from slipway_operator.loop.metrics import CONDITIONS, UNSIGNED, Gauges, Metrics
from slipway_operator.loop.work_queue import WorkQueue
from slipway_serving.http.metrics import ServerMetrics
from slipway_trainer.step import progress

MONITORS = {name: {"enabled": True} for name in ("serviceMonitor", "podMonitor", "prometheusRule", "dashboard")}


class NoWatches:
    def ages(self) -> dict[str, float]:
        return {}


def exported() -> set[str]:
    """The names of all series that the operator, a trainer and a server export."""
    metrics, serving = Metrics(), CollectorRegistry()
    metrics.include(Gauges(World(), WorkQueue(lambda: 0.0), NoWatches(), lambda: True))
    ServerMetrics(serving)
    found = {f"{progress.PREFIX}{name}" for name in (*progress._GAUGES, progress._SHARES)}
    for metric in (*metrics.registry.collect(), *serving.collect()):
        suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}.get(metric.type, ("",))
        found |= {metric.name + suffix for suffix in suffixes}
    return found


def asked(expression: str) -> set[str]:
    return set(re.findall(r"\bslipway_\w+", expression))


def alerts(helm: Helm) -> list[dict]:
    rule = helm.render({"monitoring": MONITORS}).one("PrometheusRule", "slipway")
    return [alert for group in rule["spec"]["groups"] for alert in group["rules"]]


def dashboard_expressions() -> Iterator[str]:
    for panel in json.loads((CHART / "files" / "dashboards" / "slipway.json").read_text())["panels"]:
        yield from (target["expr"] for target in panel["targets"])


def test_everything_of_monitoring_is_off_unless_asked_for(helm: Helm) -> None:
    kinds = {manifest["apiVersion"].split("/")[0] for manifest in helm.render().manifests}
    assert "monitoring.coreos.com" not in kinds


def test_alerts_ask_for_metrics_that_exist(helm: Helm) -> None:
    for alert in alerts(helm):
        assert asked(alert["expr"]) <= exported(), alert["alert"]
        assert alert["annotations"].keys() == {"summary", "description"}
        assert alert["labels"]["severity"] in ("warning", "critical")


def test_the_dashboard_asks_for_metrics_that_exist() -> None:
    for expression in dashboard_expressions():
        assert asked(expression)
        assert asked(expression) <= exported(), expression


def test_alerts_name_phases_and_verdicts_that_exist(helm: Helm) -> None:
    known = {value.value for values in (Phase, EndpointPhase, Verdict) for value in values}
    for alert in alerts(helm):
        for values in re.findall(r'(?:phase|verdict)=~?"([^"]+)"', alert["expr"]):
            assert set(values.split("|")) <= known, alert["alert"]


def test_alerts_name_conditions_that_are_counted(helm: Helm) -> None:
    named = {
        name
        for alert in alerts(helm)
        for values in re.findall(r'condition=~?"([^"]+)"', alert["expr"])
        for name in values.split("|")
    }
    # What an upgrade left unsigned goes on, and is seen on the dashboard.
    assert named == set(CONDITIONS) - {UNSIGNED}


def test_alerts_get_the_labels_that_route_them(helm: Helm) -> None:
    monitoring = {"prometheusRule": {"enabled": True, "labels": {"release": "p"}, "alertLabels": {"team": "ml"}}}
    rule = helm.render({"monitoring": monitoring}).one("PrometheusRule", "slipway")
    assert rule["metadata"]["labels"]["release"] == "p"
    assert {alert["labels"]["team"] for group in rule["spec"]["groups"] for alert in group["rules"]} == {"ml"}


@pytest.mark.parametrize(("name", "role", "port"), [("training", "step", "progress"), ("serving", "serve", "http")])
def test_pods_are_found_by_their_role(helm: Helm, name: str, role: str, port: str) -> None:
    monitor = helm.render({"monitoring": MONITORS}).one("PodMonitor", f"slipway-{name}")["spec"]
    assert monitor["selector"]["matchLabels"] == {"slipway.dev/role": role}
    assert [endpoint["port"] for endpoint in monitor["podMetricsEndpoints"]] == [port]
    assert monitor["namespaceSelector"] == {"any": True}


def test_the_operator_is_found_by_its_service(helm: Helm) -> None:
    chart = helm.render({"monitoring": MONITORS})
    monitor = chart.one("ServiceMonitor", "slipway-operator")["spec"]
    service = chart.one("Service", "slipway-operator")
    assert monitor["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert monitor["endpoints"][0]["port"] in [port["name"] for port in service["spec"]["ports"]]
