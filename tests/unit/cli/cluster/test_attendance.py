"""Whether somebody looks after a run is told wherever it is shown, and never guessed."""

import threading
import time
from datetime import UTC, datetime, timedelta

import pytest
from tests.unit.cli.cluster.objects import run_document
from tests.unit.cli.cluster.test_diagnosis import at_work
from typer.testing import CliRunner

from slipway.cluster import target as cluster_place
from slipway.cluster.attendance import Absence, Attendance, Presence, Unknown
from slipway.main import app
from slipway_core.resources.status import Phase, RunStatus, StepState, StepStatus

LEASE = 'Error from server (Forbidden): leases "slipway-operator" is forbidden: User "ann" cannot get it'
SETTINGS = 'Error from server (Forbidden): configmaps "slipway-client" is forbidden: User "ann" cannot get it'
TRAINS = RunStatus(phase=Phase.TRAINING, stages=[StepStatus(name="learn", state=StepState.RUNNING, attempt=1)])


def seen(cluster, namespace="team"):
    return Attendance(cluster.kubectl, lambda: datetime.now(UTC)).of(namespace)


def trains(cluster, status=TRAINS):
    created = datetime.now(UTC) - timedelta(hours=1)
    cluster.save(**{"trainingrun/tang": run_document(status, created=created)})


def said(*words, code=0):
    result = CliRunner().invoke(app, [*words, "-n", "team"])
    assert result.exit_code == code, result.output
    return " ".join(result.output.split())


def test_a_lease_of_now_is_a_presence_and_an_old_one_an_absence(cluster):
    at_work(cluster, ago=70)
    assert isinstance(seen(cluster), Presence), "the clock of this machine may be ahead"
    at_work(cluster, ago=600)
    found = seen(cluster)
    assert isinstance(found, Absence)
    assert str(found).startswith("no operator is at work: its Lease slipway-operator in namespace slipway-system was ")
    assert "Z; `kubectl get pods -n slipway-system` shows how it is" in str(found)


def test_a_lease_that_was_never_made_is_an_absence(cluster):
    at_work(cluster)
    cluster.save(**{"lease/slipway-operator": {"spec": {}}})
    assert "was never renewed" in str(seen(cluster))


@pytest.mark.parametrize(
    ("call", "refusal", "why"),
    [
        ("get lease slipway-operator", LEASE, "this user may not read the Lease slipway-operator"),
        ("get configmap slipway-client", SETTINGS, "this user may not read what the chart says of its operator"),
    ],
)
def test_what_this_user_may_not_read_is_no_absence(cluster, call, refusal, why):
    at_work(cluster, ago=600)
    cluster.refuse(call, refusal)
    found = seen(cluster)
    assert isinstance(found, Unknown)
    assert found.why.startswith(why)
    trains(cluster)
    assert "not at work" not in said("status")


def test_a_chart_of_an_older_release_says_nothing_of_its_operator(cluster):
    cluster.save(**{"configmap/slipway-client": {"data": {"client.yaml": "images: {train: a:1}"}}})
    assert isinstance(seen(cluster), Unknown)


@pytest.mark.parametrize("words", [("status",), ("status", "tang"), ("doctor", "tang")])
def test_status_and_doctor_say_when_nobody_looks_after_a_run_that_trains(cluster, words):
    trains(cluster)
    at_work(cluster)
    assert "not at work" not in said(*words)
    assert "no operator" not in said(*words)
    at_work(cluster, ago=600)
    shown = said(*words, code=1 if words[0] == "doctor" else 0)
    assert ("(not at work)" if words == ("status",) else "no operator is at work") in shown


def test_who_looks_on_is_told_once_that_nobody_looks_after_the_run(cluster, monkeypatch):
    monkeypatch.setattr(cluster_place, "_SILENCE", 0.1)
    monkeypatch.setattr(cluster_place, "_LOOK_SECONDS", 0.0)
    trains(cluster)
    at_work(cluster, ago=600)

    def ends_after_some_looks():
        log = cluster.root / "calls.jsonl"
        while not log.exists() or len(cluster.calls("lease")) < 3:
            time.sleep(0.1)
        trains(cluster, RunStatus(phase=Phase.COMPLETED))

    threading.Thread(target=ends_after_some_looks, daemon=True).start()
    assert said("watch", "tang").count("no operator is at work") == 1


def test_a_run_that_has_ended_needs_nobody(cluster):
    trains(cluster, RunStatus(phase=Phase.COMPLETED))
    at_work(cluster, ago=600)
    assert "not at work" not in said("status")
    assert "no operator" not in said("status", "tang")


def test_a_new_run_in_a_namespace_that_is_not_watched_is_told_which_are(cluster):
    trains(cluster, None)
    at_work(cluster, namespaces=["team-a"])
    assert "the chart's watchNamespaces are team-a, and not team" in said("status", "tang")


def test_the_operator_is_looked_at_once_for_all_runs_of_a_table(cluster):
    at_work(cluster)
    documents = {}
    for name in ("a", "b", "c"):
        document = run_document(TRAINS, created=datetime.now(UTC) - timedelta(hours=1))
        documents[f"trainingrun/{name}"] = {**document, "metadata": {**document["metadata"], "name": name}}
    cluster.save(**documents)
    said("status")
    assert len([call for call in cluster.calls("lease") if "get" in call]) == 1
