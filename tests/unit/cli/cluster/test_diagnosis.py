"""What is said of a cluster that is asked whether it can take a run."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from tests.unit.cli.cluster.objects import condition, run_document
from typer.testing import CliRunner

from slipway.cluster import client_settings, diagnosis
from slipway.cluster.kubectl import Forbidden
from slipway.cluster.target import ClusterTarget
from slipway.diagnosis.finding import Level
from slipway.main import app
from slipway_core.resources.status import Phase, RunStatus, StepState, StepStatus

NO_RIGHT = 'Error from server (Forbidden): configmaps "slipway-client" is forbidden: User "ann" cannot get it'


LABELS = {"app.kubernetes.io/name": "slipway", "app.kubernetes.io/component": "operator"}


def operator(cluster, ready=1, replicas=1):
    metadata = {"name": "slipway-operator", "namespace": "slipway-system", "labels": LABELS}
    deployment = {"metadata": metadata, "spec": {"replicas": replicas}, "status": {"readyReplicas": ready}}
    cluster.save(**{"deployment/slipway-operator": deployment})


def at_work(cluster, *, ago=3.0, namespaces=()):
    """The chart tells where the operator is, and its Lease was renewed so many seconds ago."""
    place = {"namespace": "slipway-system", "lease": "slipway-operator", "watchNamespaces": list(namespaces)}
    settings = json.dumps({"images": {"train": "a:1"}, "operator": place})
    renewed = (datetime.now(UTC) - timedelta(seconds=ago)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    spec = {"holderIdentity": "pod-1", "leaseDurationSeconds": 15, "renewTime": renewed}
    configured = {"configmap/slipway-client": {"data": {"client.yaml": settings}}}
    cluster.save(**configured, **{"lease/slipway-operator": {"spec": spec}})


def found(cluster, subject):
    findings = diagnosis.diagnose(lambda: ClusterTarget(cluster.kubectl))
    return [finding for finding in findings if finding.subject == subject]


def test_the_train_image_that_the_chart_names_is_told(cluster):
    operator(cluster)
    cluster.save(**{"configmap/slipway-client": {"data": {"client.yaml": "images: {train: a:1}"}}})
    assert [(finding.level, finding.title) for finding in found(cluster, "train image")] == [(Level.GOOD, "a:1")]


def test_settings_that_are_not_there_are_a_problem(cluster):
    operator(cluster)
    [finding] = found(cluster, "train image")
    assert finding.level is Level.PROBLEM
    assert "name an image to submit with --image" in finding.fix


def test_settings_that_this_user_may_not_read_are_no_problem_of_the_cluster(cluster):
    operator(cluster)
    cluster.refuse("get configmap slipway-client", NO_RIGHT)
    [finding] = found(cluster, "train image")
    assert finding.level is Level.NOTE
    assert "name an image to submit with --image" in finding.fix


def test_settings_that_may_not_be_read_stay_told_apart_from_those_that_are_not_there(cluster):
    cluster.refuse("get configmap slipway-client", NO_RIGHT)
    with pytest.raises(Forbidden, match="this user sees no ConfigMap slipway-client in namespace kube-public"):
        client_settings.read(cluster.kubectl)
    assert client_settings.read(cluster.kubectl, "a:1").image == "a:1"


def test_a_cluster_that_has_the_resources_alone_is_said_to_have_no_operator(cluster):
    finding, unknown = found(cluster, "operator")
    assert (finding.level, finding.title) == (Level.PROBLEM, "Slipway's operator is not installed")
    assert unknown.level is Level.NOTE
    assert not found(cluster, "train image")


@pytest.mark.parametrize(("replicas", "fix"), [(0, "kubectl scale deployment"), (1, "kubectl logs deployment")])
def test_an_operator_that_does_not_run_is_a_problem(cluster, replicas, fix):
    operator(cluster, ready=0, replicas=replicas)
    finding, _ = found(cluster, "operator")
    assert (finding.level, finding.title) == (Level.PROBLEM, "Slipway's operator does not run")
    assert fix in finding.fix


def test_an_operator_that_runs_is_told(cluster):
    operator(cluster)
    finding, _ = found(cluster, "operator")
    assert (finding.level, finding.figure) == (
        Level.GOOD, "Deployment slipway-operator in namespace slipway-system: 1 of 1 replicas ready",
    )  # fmt: skip


def test_who_may_not_look_at_deployments_is_told_that_nothing_is_known_of_the_operator(cluster):
    cluster.refuse("get deployments", 'Error from server (Forbidden): deployments.apps is forbidden: User "ann" cannot')
    [finding] = found(cluster, "operator")
    assert (finding.level, finding.title) == (Level.NOTE, "whether it is at work is not known to this user")
    assert found(cluster, "train image")


def test_a_lease_that_is_renewed_says_that_the_operator_is_at_work(cluster):
    at_work(cluster)
    [finding] = [one for one in found(cluster, "operator") if one.level is Level.GOOD]
    assert finding.title == "it is at work, and looks after namespace team"
    assert finding.figure.startswith("Lease slipway-operator in namespace slipway-system: renewed ")
    assert finding.figure.endswith(" s ago by pod-1")


def test_an_operator_that_does_not_watch_this_namespace_is_a_problem(cluster):
    operator(cluster)
    at_work(cluster, namespaces=["team-a", "team-b"])
    [finding] = [one for one in found(cluster, "operator") if one.level is Level.PROBLEM]
    assert finding.title == "no operator looks after this namespace"
    assert "the chart's watchNamespaces are team-a, team-b, and not team" in finding.figure
    assert "add team to them, or submit to one of those (-n)" in finding.fix


def test_runs_are_counted_as_one_says_it(cluster):
    cluster.save(**{"trainingrun/tang": run_document(RunStatus())})
    assert found(cluster, "cluster")[0].figure == "1 run, 0 endpoints"


def test_doctor_names_what_a_run_waits_for_and_ends_with_1(cluster):
    step = StepStatus(name="prepare", state=StepState.RUNNING, attempt=1)
    missing = condition("SecretMissing", "True", "NotFound", "the Secret hf does not exist")
    status = RunStatus(phase=Phase.PENDING, stages=[step], conditions=[missing])
    cluster.save(**{"trainingrun/tang": run_document(status)})
    result = CliRunner().invoke(app, ["doctor", "tang", "-n", "team"])
    assert result.exit_code == 1
    assert "✗ tang: it waits: SecretMissing" in result.stdout
    assert "the Secret hf does not exist" in result.stdout


def test_doctor_says_of_a_run_that_no_operator_looks_at_it(cluster):
    cluster.save(**{"trainingrun/tang": run_document(created=datetime(2026, 1, 1, tzinfo=UTC))})
    result = CliRunner().invoke(app, ["doctor", "tang", "-n", "team"])
    assert result.exit_code == 1
    assert "no operator has looked at it" in result.stdout
