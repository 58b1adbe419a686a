"""Runs that share a queue with room for one pod: Kueue's own manager admits their Jobs, on a real API server."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator

import pytest
import yaml
from tests.integration.api_client import Manifest, eventually
from tests.integration.control_plane import ROOT, ControlPlane, started
from tests.integration.operator.audit import by_operator, writes
from tests.integration.operator.runs_on_cluster import STEPS, Run

from slipway_operator.kube.kinds import POD, WORKLOAD

_SCRIPT = ROOT / "tools/testcluster/kueue.sh"
_API = "kueue.x-k8s.io/v1beta2"
QUEUE = {"queue": "team"}
URGENT = {**QUEUE, "priorityClassName": "urgent"}


@pytest.fixture(scope="module")
def control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """One of this file's own: on that of the others a queue finds no Kueue."""
    with started(tmp_path_factory.mktemp("with-kueue")) as plane:
        _kueue("up", plane)
        try:
            urgent = {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "value": 1000}
            _apply(plane, {"apiVersion": _API, "kind": "ResourceFlavor", "metadata": {"name": "any"}})
            _apply(plane, {**urgent, "metadata": {"name": "urgent"}})
            yield plane
        finally:
            _kueue("down", plane)


@pytest.fixture
def quota(control_plane: ControlPlane, namespace: str) -> Iterator[str]:
    """A ClusterQueue with room for one pod of a step. Returns its name."""
    room = [{"name": "cpu", "nominalQuota": "1"}, {"name": "memory", "nominalQuota": "2Gi"}]
    spec = {
        "namespaceSelector": {},
        "preemption": {"withinClusterQueue": "LowerPriority"},
        "resourceGroups": [
            {"coveredResources": [one["name"] for one in room], "flavors": [{"name": "any", "resources": room}]}
        ],
    }
    _apply(control_plane, {"apiVersion": _API, "kind": "ClusterQueue", "metadata": {"name": namespace}, "spec": spec})
    yield namespace
    control_plane.kubectl("delete", "clusterqueue", namespace, "--wait=false")


@pytest.fixture
def queue(control_plane: ControlPlane, namespace: str, quota: str) -> None:
    _local_queue(control_plane, namespace, quota)


def test_of_two_runs_the_second_is_queued_with_the_reason_and_goes_on_when_there_is_room(runs, queue):
    first = runs.apply("hold-learn-1-x", endpoint=None, compute=QUEUE)
    pod = first.pod("learn").runs()
    first.reaches("Training")
    second = runs.apply("second", endpoint=None, compute=QUEUE)
    message = second.shows("Queued", "Pending")
    assert "queue team: " in message
    assert "insufficient unused quota for cpu" in message
    assert second.phase == "Queued"

    pod.ends(0, pod.result())
    for run in (first, second):
        run.reaches("Completed", 60)
        assert not run.condition("Queued")
        assert [run.record(step)["attempt"] for step in STEPS] == [1, 1, 1, 1]
    assert most_pods_at_once(first) == 1


def test_F_a_run_that_goes_on_waiting_writes_nothing(runs, queue, control_plane):
    runs.apply("hold-learn-1-x", endpoint=None, compute=QUEUE).pod("learn").runs()
    waits = runs.apply("waits", endpoint=None, compute=QUEUE)
    waits.shows("Queued", "Pending")
    before = writes_about(control_plane, waits)
    for word in ("one", "two"):
        # Wakes a pass; conditions count time in whole seconds.
        waits.annotate("looked-at", word)
        time.sleep(1.2)
    assert writes_about(control_plane, waits) == before


def test_a_queue_that_does_not_exist_is_named_and_the_run_goes_on_once_it_does(runs, quota, control_plane):
    run = runs.apply("no-queue", endpoint=None, compute=QUEUE)
    assert "LocalQueue team doesn't exist" in run.shows("Queued", "Inadmissible")
    assert run.phase == "Queued"
    _local_queue(control_plane, run.namespace, quota)
    run.reaches("Completed", 60)


def test_a_run_that_names_no_queue_waits_in_the_default_queue_of_its_namespace(runs, quota, queue, control_plane):
    _local_queue(control_plane, runs.namespace, quota, "default")
    first = runs.apply("hold-learn-1-x", endpoint=None, compute=QUEUE)
    pod = first.pod("learn").runs()
    second = runs.apply("second", endpoint=None)
    assert "queue default: " in second.shows("Queued", "Pending")
    pod.ends(0, pod.result())
    second.reaches("Completed", 60)


def test_D_an_eviction_is_an_interruption_and_the_next_attempt_passes_the_queue_too(runs, queue):
    run = runs.apply("hold-learn-2-x", endpoint=None, compute=QUEUE, retries=0)
    run.pod("learn").runs()
    run.reaches("Training")
    activate(run, active=False)

    record = interrupted(run)
    assert record["failures"] == 0
    assert [attempt_of(job) for job in eventually(lambda: jobs_left(run, 1), "the first Job is gone")] == ["2"]
    second = run.pod("learn", 2)
    second.ends(0, second.result())
    run.reaches("Completed", 60)
    assert (run.record("learn")["attempt"], run.record("learn")["failures"]) == (2, 0)
    assert most_pods_at_once(run) == 1


def test_D_a_run_that_a_more_urgent_one_preempts_waits_for_it_and_goes_on(runs, queue):
    first = runs.apply("hold-learn-1-x", endpoint=None, compute=QUEUE, retries=0)
    first.pod("learn").runs()
    first.reaches("Training")
    urgent = runs.apply("hold-prepare-1-x", endpoint=None, compute=URGENT)
    pod = urgent.pod("prepare").runs()

    assert interrupted(first)["failures"] == 0
    assert "insufficient" in first.shows("Queued", "Pending")
    assert first.phase == "Queued"
    pod.ends(0, pod.result())
    for run in (urgent, first):
        run.reaches("Completed", 60)
    assert (first.record("learn")["attempt"], first.record("learn")["failures"]) == (2, 0)
    assert most_pods_at_once(first) == 1


def test_D_an_evicted_attempt_leaves_its_checkpoint_and_has_no_successor_before_its_last_pod_is_gone(runs, queue):
    run = runs.apply("hold-learn-1-x", endpoint=None, compute=QUEUE, retries=0)
    pod = run.pod("learn").runs().stays_when_deleted()
    run.reaches("Training")
    activate(run, active=False)
    eventually(lambda: "deletionTimestamp" in run.pod("learn").manifest["metadata"], "its pod is told to end")
    time.sleep(2)
    assert {attempt_of(job) for job in run.jobs("learn")} == {"1"}
    pod.ends(75, pod.result(progress={"step": 40, "total": 100}))
    assert interrupted(run)["resumedStep"] == 40
    pod.node_is_back()
    run.reaches("Completed", 60)
    assert (run.record("learn")["attempt"], run.record("learn")["failures"]) == (2, 0)
    assert most_pods_at_once(run) == 1


def test_D_an_attempt_whose_eviction_no_operator_saw_goes_on_when_the_queue_admits_it_again(runs, queue, operator):
    run = runs.apply("hold-learn-1-x", endpoint=None, compute=QUEUE, retries=0)
    run.pod("learn").runs()
    run.reaches("Training")
    operator.kill()
    activate(run, active=False)
    eventually(lambda: not run.api.list(POD, run.namespace, "slipway.dev/step=learn"), "its pod is gone")
    operator.start()
    run.reaches("Queued")
    assert {attempt_of(job) for job in run.jobs("learn")} == {"1"}
    activate(run, active=True)
    pod = run.pod("learn")
    pod.ends(0, pod.result())
    run.reaches("Completed", 60)
    assert (run.record("learn")["attempt"], run.record("learn")["failures"]) == (1, 0)
    assert most_pods_at_once(run) == 1


def activate(run: Run, *, active: bool) -> None:
    """Lets Kueue admit the workloads of the step learn, or has it evict them."""
    uids = {job["metadata"]["uid"] for job in run.jobs("learn")}
    for workload in run.api.list(WORKLOAD, run.namespace):
        if uids & {owner["uid"] for owner in workload["metadata"]["ownerReferences"]}:
            run.api.merge(WORKLOAD, run.namespace, workload["metadata"]["name"], {"spec": {"active": active}})


def interrupted(run: Run) -> Manifest:
    """Waits until the second attempt of the step learn is on record. Returns that."""
    eventually(lambda: run.record("learn").get("attempt") == 2, "the second attempt of learn")
    assert "StepInterrupted" in eventually(lambda: {event["reason"] for event in run.events()}, "events")
    return run.record("learn")


def jobs_left(run: Run, attempt: int) -> list[Manifest]:
    """Returns the Jobs of the step learn once that of this attempt is gone, none before."""
    found = run.jobs("learn")
    return [] if str(attempt) in map(attempt_of, found) else found


def attempt_of(job: Manifest) -> str:
    return job["metadata"]["labels"]["slipway.dev/attempt"]


def most_pods_at_once(run: Run) -> int:
    """Returns how many pods of its namespace had a process at the same time, ever."""
    at_once, most = set[str](), 0
    for pod in run.api.versions(POD, run.namespace):
        own = {pod["metadata"]["uid"]}
        at_once = at_once | own if pod["status"]["phase"] in ("Pending", "Running") else at_once - own
        most = max(most, len(at_once))
    return most


def writes_about(plane: ControlPlane, run: Run) -> int:
    return len([one for one in by_operator(writes(plane.audit_log, run.namespace)) if run.name in one.name])


def _local_queue(plane: ControlPlane, namespace: str, quota: str, name: str = QUEUE["queue"]) -> None:
    metadata = {"name": name, "namespace": namespace}
    _apply(plane, {"apiVersion": _API, "kind": "LocalQueue", "metadata": metadata, "spec": {"clusterQueue": quota}})


def _apply(plane: ControlPlane, manifest: Manifest) -> None:
    plane.kubectl("apply", "-f", "-", stdin=yaml.safe_dump(manifest))


def _kueue(command: str, plane: ControlPlane) -> None:
    subprocess.run([_SCRIPT, command, plane.state], check=True, timeout=600)
