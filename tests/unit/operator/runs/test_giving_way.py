"""Runs over several nodes of a cluster that is too small for all of them: each gets all of its nodes in the end."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta

import pytest
from tests.unit.operator.fake_cluster import FakeCluster
from tests.unit.operator.run_world import RunWorld

from slipway_core.resources.conditions import timestamp
from slipway_operator import names
from slipway_operator.kube import kinds
from slipway_operator.kube.errors import Forbidden, Invalid
from slipway_operator.kube.manifest import at, condition
from slipway_operator.settings import Settings

TICK = timedelta(seconds=30)
GRACE = timedelta(seconds=60)


@dataclass
class SmallCluster:
    """Nodes with room for one pod each, a Job controller, a scheduler, and a kubelet that ends what was deleted after
    its grace period."""

    nodes: int
    runs: tuple[str, ...]
    compute: dict = field(default_factory=lambda: {"nodes": 2})
    settings: Settings = field(default_factory=Settings)

    def __post_init__(self) -> None:
        self.cluster = FakeCluster()
        self.worlds: dict[str, RunWorld] = {}
        self.took: dict[str, list[float]] = {}
        for number, name in enumerate(self.runs):
            spec = {"compute": self.compute, "serving": {"endpoint": name}}
            world = RunWorld(name=name, spec=spec, cluster=self.cluster, settings=self.settings)
            self.worlds[name] = world
            created = timestamp(world.now + timedelta(seconds=number))
            self.cluster.put({**world.run, "metadata": {**world.run["metadata"], "creationTimestamp": created}})
        self.cluster.clock = lambda: self.now
        self.leaving: dict[str, object] = {}
        for world in self.worlds.values():
            world.settle()
            world.end("prepare")
            world.settle()

    @property
    def now(self):
        return next(iter(self.worlds.values())).now

    def pods(self, run: str | None = None):
        return [
            pod
            for pod in self.cluster.all(kinds.POD)
            if pod["metadata"]["labels"].get(names.STEP) == "learn"
            and pod["status"]["phase"] in ("Pending", "Running")
            and run in (None, pod["metadata"]["labels"][names.RUN])
        ]

    def placed(self, run: str | None = None) -> int:
        return sum("nodeName" in pod["spec"] for pod in self.pods(run))

    def tick(self, order: tuple[str, ...] = ()) -> None:
        """Half a minute: pods are made, in turns, and get nodes; those of deleted Jobs end; the operator looks."""
        self._end()
        for index in range(self.compute["nodes"]):
            for name in order or self.runs:
                self._make(name, index)
        self._place()
        for world in self.worlds.values():
            world.now += TICK
        for world in self.worlds.values():
            world.persist()

    def until(self, what, limit: timedelta = timedelta(hours=1)) -> timedelta:
        began = self.now
        while not what():
            self.tick()
            assert self.now - began < limit, "it never comes to that"
        return self.now - began

    def has_all(self, run: str) -> bool:
        return self.placed(run) == self.compute["nodes"]

    def completes(self, run: str) -> None:
        for pod in self.pods(run):
            self.cluster.remove(kinds.POD, "default", pod["metadata"]["name"])
        self.worlds[run].end("learn")
        self.worlds[run].settle()

    def _end(self) -> None:
        jobs = {job["metadata"]["uid"] for job in self.cluster.all(kinds.JOB)}
        for pod in self.pods():
            name, uid = pod["metadata"]["name"], pod["metadata"]["ownerReferences"][0]["uid"]
            if uid in jobs:
                continue
            deleted = self.leaving.setdefault(name, self.now)
            if "nodeName" not in pod["spec"]:
                self.cluster.remove(kinds.POD, "default", name)
            elif self.now - deleted >= GRACE:
                state = {"terminated": {"exitCode": 137, "finishedAt": timestamp(self.now)}}
                statuses = [{"name": "trainer", "state": state}]
                self.cluster.put({**pod, "status": {"phase": "Failed", "containerStatuses": statuses}})
            elif "deletionTimestamp" not in pod["metadata"]:
                metadata = {**pod["metadata"], "deletionTimestamp": timestamp(self.now + GRACE)}
                self.cluster.put({**pod, "metadata": metadata})

    def _make(self, run: str, index: int) -> None:
        jobs = [
            job
            for job in self.worlds[run].jobs("learn")
            if not (condition(job, "Complete") or condition(job, "Failed"))
        ]
        for job in jobs:
            if not any(pod["metadata"]["name"] == f"{job['metadata']['name']}-{index}-abcde" for pod in self.pods()):
                self.worlds[run].pod_of(job, index, phase="Pending")
                self._place()

    def _place(self) -> None:
        for pod in self.pods():
            if "nodeName" in pod["spec"]:
                continue
            if self.placed() < self.nodes and "deletionTimestamp" not in pod["metadata"]:
                scheduled = {"type": "PodScheduled", "status": "True", "lastTransitionTime": timestamp(self.now)}
                status = {"phase": "Running", "conditions": [scheduled]}
                self.cluster.put({**pod, "spec": {"nodeName": f"node-{self.placed()}"}, "status": status})
            elif not at(pod, "status").get("conditions"):
                message = f"0/{self.nodes} nodes are available: {self.nodes} Insufficient cpu."
                no_place = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
                no_place["lastTransitionTime"] = timestamp(self.now)
                self.cluster.put({**pod, "status": {"phase": "Pending", "conditions": [no_place]}})


@pytest.mark.parametrize("runs", [("old", "young"), ("young-by-name-only", "a")])
def test_of_two_runs_that_each_hold_half_of_the_nodes_the_younger_gives_way(runs):
    small = SmallCluster(nodes=2, runs=runs)
    old, young = runs
    small.tick()
    assert (small.placed(old), small.placed(young)) == (1, 1)
    took = small.until(lambda: small.has_all(old))
    assert timedelta(minutes=10) <= took <= timedelta(minutes=12)
    record = small.worlds[young].record("learn")
    assert (record["gaveWay"], record["failures"], record["stalls"]) == (1, 0, 0)
    assert "1 of its 2 pods had a place for 10 min 0 s and the others found none" in record["message"]
    assert "so that an older run that waits in the same way gets its places" in record["message"]
    assert small.cluster.told().count("GaveWay") == 1
    assert small.worlds[old].record("learn")["attempt"] == 1

    small.until(lambda: small.worlds[young].record("learn")["attempt"] == 2)
    small.tick()
    assert small.worlds[young].phase == "Pending"
    small.completes(old)
    small.until(lambda: small.has_all(young))
    small.tick()
    assert small.worlds[young].record("learn").get("gaveWay", 0) == 0
    small.completes(young)
    assert small.worlds[young].record("learn")["state"] == "Succeeded"


def test_of_three_runs_that_each_hold_a_third_the_eldest_gets_all_and_then_the_others():
    small = SmallCluster(nodes=3, runs=("a", "b", "c"), compute={"nodes": 3})
    small.tick()
    assert [small.placed(run) for run in "abc"] == [1, 1, 1]
    left = ["a", "b", "c"]
    while left:
        small.until(lambda: any(small.has_all(run) for run in left), timedelta(hours=4))
        done = next(run for run in left if small.has_all(run))
        if len(left) == 3:
            assert done == "a"
        small.completes(done)
        left.remove(done)
    assert all(small.worlds[run].record("learn")["failures"] == 0 for run in "abc")


def test_a_run_that_waits_alone_for_an_autoscaler_is_restarted_seldom_and_ever_later():
    small = SmallCluster(nodes=1, runs=("alone",))
    alone = small.worlds["alone"]
    began = small.now
    held: list[timedelta] = []
    for attempt in range(2, 5):
        small.until(lambda attempt=attempt: alone.record("learn")["attempt"] == attempt, timedelta(hours=4))
        held.append(small.now - began)
        began = small.now
    minutes = [round(took.total_seconds() / 60) for took in held]
    assert minutes == [pytest.approx(wanted, abs=8) for wanted in (20, 40, 80)]
    small.nodes = 2
    small.until(lambda: small.has_all("alone"))
    assert (alone.record("learn")["failures"], alone.phase) == (0, "Training")


def test_a_run_that_has_all_of_its_nodes_gives_none_back():
    small = SmallCluster(nodes=2, runs=("first", "second"))
    small.tick(order=("first",))
    while small.placed("first") < 2:
        small.tick(order=("first",))
    for _ in range(60):
        small.tick()
    assert small.worlds["first"].record("learn")["attempt"] == 1
    assert "GaveWay" not in small.cluster.told()


def test_what_a_queue_admits_is_the_queues_to_see_to():
    small = SmallCluster(nodes=1, runs=("queued",), compute={"nodes": 2, "queue": "team"})
    job = small.worlds["queued"].job("learn")
    small.cluster.put({**job, "spec": {**job["spec"], "suspend": False}})
    for _ in range(60):
        small.tick()
    assert small.worlds["queued"].record("learn")["attempt"] == 1


def test_a_process_that_gave_up_waiting_for_peers_without_a_place_made_no_failure():
    """torchrun's launcher waits for a time of its own, and ends with 76 when nobody came."""
    small = SmallCluster(nodes=1, runs=("alone",))
    alone = small.worlds["alone"]
    for _ in range(4):
        small.until(lambda: small.placed("alone") == 1)
        small.tick()
        for pod in small.pods("alone"):
            small.cluster.remove(kinds.POD, "default", pod["metadata"]["name"])
        alone.end("learn", code=76, result={"error": {"kind": "LostPeers", "message": "nobody came"}})
        alone.persist()
    record = alone.record("learn")
    assert (record["failures"], record["stalls"], record["gaveWay"]) == (0, 0, 4)


@pytest.mark.parametrize("refused", [Forbidden("may not delete jobs"), Invalid("a webhook says no")])
def test_a_deletion_that_is_refused_is_asked_for_until_the_places_are_given_back(refused):
    small = SmallCluster(nodes=2, runs=("old", "young"))
    small.tick()
    for _ in range(3):
        small.cluster.fail_next("delete", kinds.JOB, refused)
    young = small.worlds["young"]
    small.until(lambda: young.record("learn").get("gaveWay", 0) == 1)
    small.until(lambda: small.has_all("old"), timedelta(minutes=10))
    assert young.record("learn")["gaveWay"] == 1
    assert small.cluster.told().count("GaveWay") == 1


def test_F_an_operator_that_dies_between_the_deletion_and_the_status_gives_way_once():
    small = SmallCluster(nodes=2, runs=("old", "young"))
    small.tick()
    young = small.worlds["young"]
    small.until(lambda: young.record("learn").get("gaveWay", 0) == 1)
    writes = len(small.cluster.written("delete", kinds.JOB))
    young.start_operator()
    for _ in range(3):
        small.tick()
    assert len(small.cluster.written("delete", kinds.JOB)) == writes
    assert small.worlds["young"].condition("Progressing")["reason"] == "GaveWay"
