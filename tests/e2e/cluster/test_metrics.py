"""What Prometheus reads off a cluster with Slipway on it, found as the chart's monitors say: operator, trainer, server.
Its alerts are evaluated, and its dashboard is drawn by queries that find something.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.e2e.cluster import discovery, monitors, prometheus, runs
from tests.e2e.cluster.kube import Kube, wait
from tests.e2e.cluster.namespaces import namespace
from tests.e2e.cluster.prometheus import Prometheus
from tests.unit.chart.rendering import CHART, Helm, Rendered

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

RUN, ENDPOINT, KEY = "measured", "measured-chat", "key-of-the-metrics-test"
QUESTIONS = 3
INTERVAL = "1s"
"""Between two scrapes: a tiny stage trains for seconds."""
ON = {"enabled": True}
MINE = f'namespace="e2e-metrics",run="{RUN}"'


@pytest.fixture(scope="module")
def place(kube: Kube) -> Iterator[Kube]:
    with namespace("e2e-metrics", kube.program) as made:
        yield made


@pytest.fixture(scope="module")
def chart() -> Rendered:
    """The chart with all of its monitoring, as it is installed."""
    kinds = ("serviceMonitor", "podMonitor", "prometheusRule", "dashboard")
    return Helm.of_the_cache().render({"monitoring": dict.fromkeys(kinds, ON)})


@pytest.fixture(scope="module")
def rules(chart: Rendered, tmp_path_factory) -> Path:
    """What the Prometheus operator makes of the chart's PrometheusRule."""
    file = tmp_path_factory.mktemp("rules") / "rules.yml"
    file.write_text(json.dumps(chart.one("PrometheusRule", "slipway")["spec"]))
    return file


@pytest.fixture(scope="module")
def metrics(kube: Kube, chart: Rendered, rules: Path, tmp_path_factory) -> Iterator[Prometheus]:
    """A Prometheus that scrapes what the chart's monitors name."""
    folder = tmp_path_factory.mktemp("prometheus")
    found = [*chart.all("ServiceMonitor"), *chart.all("PodMonitor")]
    server = prometheus.api_server(kube, folder)
    configuration = monitors.configuration(found, server, folder, rules, INTERVAL)
    with discovery.kept(server, folder), prometheus.running(debian("prometheus"), configuration, folder) as started:
        wait(lambda: started.value("sum(slipway_operator_leader)"), "the operator to be scraped", 30)
        yield started


def debian(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not here: apt-get install prometheus (make cluster-up does, without Docker)")
    return found


@dataclass(frozen=True)
class Measured:
    run: dict[str, Any]
    before: dict[str, float]
    """What the operator had counted when the run was created."""


@pytest.fixture(scope="module")
def measured(place: Kube, metrics: Prometheus) -> Measured:
    """A run that was trained, judged and served under the eyes of Prometheus, and asked some questions with a key."""
    before = {what: counted(metrics, what) for what in ("verdicts_total", "gate_to_live_seconds_count")}
    place.run("create", "secret", "generic", "keys", f"--from-literal=keys={KEY}")
    run = runs.one_stage(RUN, steps=400)
    place.apply(runs.served_by(ENDPOINT, run, access={"keysSecret": "keys"}, engine={"maxModelLength": 256}))
    served = place.wait_for_phase(RUN, "Serving", seconds=600)
    with place.forwarded(f"service/{ENDPOINT}", 8000) as url:
        for _ in range(QUESTIONS):
            assert ask(url, KEY).status_code == 200
        assert ask(url, "another").status_code == 401
    return Measured(served, before)


def ask(url: str, key: str) -> httpx.Response:
    body = {"message": "床前", "max_length": 4, "temperature": 0}
    return httpx.post(f"{url}/chat", json=body, headers={"Authorization": f"Bearer {key}"}, timeout=60)


def counted(found: Prometheus, what: str) -> float:
    """A count over the replicas of the operator: those that do not lead count nothing."""
    return found.value(f"sum(slipway_operator_{what})") or 0.0


# ---------------------------------------------------------------------------------------------------- the operator


def test_every_replica_of_the_operator_is_scraped_and_one_leads(system: Kube, metrics: Prometheus) -> None:
    replicas = system.get("deployment", "slipway-operator")["spec"]["replicas"]  # type: ignore[index]
    up = 'up{job="ServiceMonitor/slipway-system/slipway-operator/0"}'
    wait(lambda: metrics.value(f"sum({up})") == replicas, f"{replicas} replicas to be up", 60)
    assert metrics.value("sum(slipway_operator_leader)") == 1


def test_the_operator_counts_runs_by_phase_as_their_status_says(metrics: Prometheus, measured: Measured) -> None:
    serving = 'max(slipway_operator_runs{phase="Serving"})'
    wait(lambda: (metrics.value(serving) or 0) >= 1, "a run in the phase Serving", 30)
    assert metrics.value('max(max_over_time(slipway_operator_runs{phase="Training"}[15m]))') >= 1  # type: ignore[operator]
    assert metrics.value('max(slipway_operator_endpoints{phase="Serving"})') >= 1  # type: ignore[operator]


@pytest.mark.parametrize("step", ["prepare", "train", "export", "evaluate"])
def test_the_operator_times_every_kind_of_step(metrics: Prometheus, measured: Measured, step: str) -> None:
    count = f'sum(slipway_operator_stage_seconds_count{{step="{step}"}})'
    wait(lambda: (metrics.value(count) or 0) >= 1, f"a {step} that was timed", 30)
    assert metrics.value(f'sum(slipway_operator_stage_seconds_sum{{step="{step}"}})') > 0  # type: ignore[operator]


def test_the_operator_counts_the_verdict_and_times_from_gate_to_live(metrics: Prometheus, measured: Measured) -> None:
    for what, before in measured.before.items():
        wait(lambda what=what, before=before: counted(metrics, what) > before, f"{what} to rise", 30)
    assert counted(metrics, 'verdicts_total{verdict="Pass"}') >= 1
    assert counted(metrics, "gate_to_live_seconds_sum") > 1


def test_the_operator_times_its_passes_and_counts_what_waits(metrics: Prometheus, measured: Measured) -> None:
    passes = {s.labels["kind"] for s in metrics.query("sum by (kind) (slipway_operator_reconcile_seconds_count) > 0")}
    assert passes >= {"TrainingRun", "ModelEndpoint"}
    assert metrics.query("slipway_operator_queue_depth")
    assert metrics.query("slipway_operator_reconcile_errors_total")


def test_the_operator_counts_its_requests_by_verb_and_kind(metrics: Prometheus, measured: Measured) -> None:
    told = metrics.query("sum by (verb, kind) (slipway_operator_api_requests_total) > 0")
    asked = {(sample.labels["verb"], sample.labels["kind"]) for sample in told}
    assert {("create", "Job"), ("create", "ConfigMap"), ("create", "Deployment")} <= asked, asked


# ---------------------------------------------------------------------------------------------------- a training pod


def test_a_training_pod_tells_a_loss_that_falls(metrics: Prometheus, measured: Measured) -> None:
    told = metrics.over_time(f'slipway_train_loss{{{MINE},step="pretrain",attempt="1"}}', "15m")
    (losses,) = told.values()
    assert len(set(losses)) > 2, losses
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("figure", ["step", "total", "tokens", "tokens_per_second", "learning_rate", "epoch"])
def test_a_training_pod_tells_how_it_goes(metrics: Prometheus, measured: Measured, figure: str) -> None:
    highest = metrics.value(f'max(max_over_time(slipway_train_{figure}{{{MINE},step="pretrain"}}[15m]))')
    assert highest is not None
    assert highest > 0


# ---------------------------------------------------------------------------------------------------- a serving pod


def test_a_server_tells_what_it_answered_and_refused(metrics: Prometheus, measured: Measured) -> None:
    chats = f'sum(slipway_requests_total{{endpoint="{ENDPOINT}",version="1",route="/chat",code="%s"}})'
    wait(lambda: metrics.value(chats % 200) == QUESTIONS, f"{QUESTIONS} answers to be counted", 30)
    assert metrics.value(chats % 401) == 1
    assert metrics.value(f'sum(slipway_generation_tokens_total{{endpoint="{ENDPOINT}"}})') > 0  # type: ignore[operator]


def test_the_engines_own_metrics_stand_beside_them(metrics: Prometheus, measured: Measured) -> None:
    tokens = f'sum(vllm:generation_tokens_total{{endpoint="{ENDPOINT}"}})'
    wait(lambda: (metrics.value(tokens) or 0) > 0, "tokens of vLLM", 30)


def test_metrics_want_no_key_where_answers_do(metrics: Prometheus, measured: Measured) -> None:
    (target,) = [each for each in metrics.targets() if each["labels"].get("endpoint") == ENDPOINT]
    assert (target["health"], target["lastError"]) == ("up", "")


# ---------------------------------------------------------------------------------------------------- alerts, dashboard


def test_promtool_takes_the_alerts(rules: Path) -> None:
    done = subprocess.run([debian("promtool"), "check", "rules", rules], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_evaluated_and_no_critical_one_fires(metrics: Prometheus, measured: Measured) -> None:
    found = metrics.rules()
    wait(lambda: all(r["health"] == "ok" for r in metrics.rules()), "all rules to be evaluated", 30, lambda: str(found))
    firing = [rule["name"] for rule in found if rule["labels"]["severity"] == "critical" and rule["state"] == "firing"]
    assert firing == []


def expressions() -> list[str]:
    dashboard = json.loads((CHART / "files" / "dashboards" / "slipway.json").read_text())
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    # Of a training on a CPU nobody knows it.
    return [expression for expression in asked if expression != "slipway_train_mfu_ratio"]


@pytest.mark.parametrize("expression", expressions())
def test_the_dashboard_finds_something(metrics: Prometheus, measured: Measured, expression: str) -> None:
    if expression.startswith("slipway_train_"):
        # Its pods have ended by now: a panel draws what they said while they ran.
        expression = f"max_over_time({expression}[15m])"
    wait(lambda: metrics.query(expression), f"{expression} to find something", 30)
