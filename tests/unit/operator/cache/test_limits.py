"""What is kept of a namespace is bounded, whatever somebody makes there."""

from tests.unit.operator.cached import RUN_UID, an_object, of_run

from slipway_operator import names
from slipway_operator.cache.key import Key
from slipway_operator.cache.room import ASIDE, Limits
from slipway_operator.cache.trim import trimmed
from slipway_operator.cache.world import World
from slipway_operator.kube.kinds import CONFIG_MAP, JOB, MODEL_ENDPOINT, SERVICE, TRAINING_RUN
from slipway_operator.kube.manifest import Manifest

TIME = "2026-01-02T03:04:05Z"


def a_run(name: str, second: int, version: int = 1, **fields):
    run = an_object(TRAINING_RUN, name, version, **fields)
    run["metadata"]["creationTimestamp"] = f"2026-01-01T00:00:{second:02}Z"
    return run


def of_two(*runs) -> World:
    world = World(Limits(runs=2))
    for run in runs:
        world.put(run)
    return world


def kept(world: World) -> set[str]:
    return {run["metadata"]["name"] for run in world.all(TRAINING_RUN, "team")}


def test_the_oldest_runs_are_kept_in_whatever_order_they_come():
    runs = [a_run(name, second) for name, second in (("c", 3), ("a", 1), ("d", 4), ("b", 2))]
    world = of_two(*runs)
    assert kept(world) == {"a", "b"}
    assert {one.rank.name for _, one in world.all_aside(TRAINING_RUN)} == {"c", "d"}


def test_those_of_the_same_second_do_not_drive_each_other_out():
    assert kept(of_two(a_run("c", 1), a_run("b", 1), a_run("a", 1))) == {"b", "c"}


def test_what_was_set_aside_is_next_once_there_is_room_the_oldest_first():
    runs = [a_run(name, second) for name, second in (("a", 1), ("b", 2), ("d", 4), ("c", 3))]
    world = of_two(*runs)
    assert world.next_in(TRAINING_RUN, "team") == []
    world.remove({**runs[0], "metadata": {**runs[0]["metadata"], "resourceVersion": "9"}})
    assert world.next_in(TRAINING_RUN, "team") == [Key("TrainingRun", "team", "c")]
    assert world.put(runs[3])
    assert kept(world) == {"b", "c"}


def test_another_namespace_has_room_of_its_own():
    world = of_two(*(a_run(name, 1) for name in "abc"), a_run("a", 9, namespace="other"))
    assert world.get(TRAINING_RUN, "other", "a") is not None


def test_a_large_run_leaves_no_room_for_those_after_it():
    world = World(Limits(memory=400_000))
    for name, second in (("a", 1), ("b", 2)):
        world.put(a_run(name, second, spec={"text": "x" * 60_000}))
    assert kept(world) == {"a"}


def test_a_run_that_grows_drives_out_the_youngest_and_not_itself():
    world = World(Limits(memory=400_000))
    world.put(a_run("a", 1))
    world.put(a_run("b", 2, spec={"text": "x" * 60_000}))
    world.put(a_run("a", 1, 2, spec={"text": "x" * 60_000}))
    assert kept(world) == {"a"}


def test_names_beyond_what_is_kept_are_bounded_too():
    world = World(Limits(runs=1))
    for index in range(ASIDE + 10):
        world.put(a_run(f"run-{index}", 1))
    assert len(world.all_aside(TRAINING_RUN)) == ASIDE


def test_what_is_set_aside_has_its_children_still():
    world = of_two(a_run("a", 1), a_run("b", 2), a_run("demo", 3, uid=RUN_UID))
    job = an_object(JOB, "demo-1", labels=of_run())
    assert world.owner(job) == Key("TrainingRun", "team", "demo")


def test_of_a_config_map_nothing_is_kept_but_its_metadata():
    world = World()
    record = an_object(CONFIG_MAP, "large", labels=of_run(), data={"text": "x" * 1_000_000})
    record["metadata"]["annotations"] = {"note": "x" * 250_000, names.ORPHANED_AT: "2026-01-01T00:00:00Z"}
    world.put(record)
    found = world.get(CONFIG_MAP, "team", "large")
    assert found is not None
    assert found.keys() == {"apiVersion", "kind", "metadata"}
    assert found["metadata"]["annotations"] == {names.ORPHANED_AT: "2026-01-01T00:00:00Z"}
    assert world.weight(CONFIG_MAP, "team", "large") < 2000


def services(world: World, number: int) -> list[bool]:
    made = [an_object(SERVICE, f"s-{index}", labels=of_run(), spec={"text": "x" * 1000}) for index in range(number)]
    return [world.put(one) for one in made]


def test_a_namespace_with_more_than_is_kept_says_so_until_a_list_shows_less():
    world = World(Limits(memory=20_000))
    assert services(world, 100).count(True) < 12, "what is not kept is news once"
    assert world.overfull("team") == ["Service"]
    sweep = world.sweep(SERVICE)
    sweep.see([an_object(SERVICE, f"s-{index}", labels=of_run(), spec={"text": "x" * 1000}) for index in range(100)])
    sweep.finish("200")
    assert world.overfull("team") == ["Service"]
    sweep = world.sweep(SERVICE)
    sweep.see([an_object(SERVICE, "s-1", labels=of_run())])
    sweep.finish("200")
    assert world.overfull("team") == []


def test_an_endpoint_has_room_beside_the_runs():
    world = of_two(*(a_run(name, 1) for name in "abc"))
    world.put(an_object(MODEL_ENDPOINT, "chat"))
    assert world.get(MODEL_ENDPOINT, "team", "chat") is not None


# ------------------------------------------------------------------------------------------------- indexes


def a_plan(uid: str = RUN_UID):
    return an_object(CONFIG_MAP, "demo-plan", labels=names.run_labels("demo", uid, "plan"))


def orphans(world: World) -> list[str]:
    return [record["metadata"]["name"] for record in world.orphans("team")]


def test_a_plan_is_an_orphan_for_as_long_as_its_run_is_not_there():
    world = World()
    run = a_run("demo", 1, uid=RUN_UID)
    world.put(a_plan())
    assert orphans(world) == ["demo-plan"]
    world.put(run)
    assert orphans(world) == []
    world.remove({**run, "metadata": {**run["metadata"], "resourceVersion": "9"}})
    assert orphans(world) == ["demo-plan"]
    assert world.orphaned() == ["team"]
    world.remove(a_plan())
    assert (orphans(world), world.orphaned()) == ([], [])


def test_the_plan_of_a_run_that_is_set_aside_is_no_orphan():
    world = of_two(a_run("a", 1), a_run("b", 2), a_run("demo", 3, uid=RUN_UID))
    world.put(a_plan())
    assert orphans(world) == []


def test_the_runs_that_start_from_a_model_are_found_by_its_run_and_by_its_folder():
    by_name = a_run("a", 1, spec={"model": {"from": "run://base"}})
    by_folder = a_run("b", 1, spec={"stages": [{"data": {"train": [{"uri": "pvc://claim/base-1/inputs/x"}]}}]})
    world = of_two(by_name, by_folder)
    assert [run["metadata"]["name"] for run in world.starting_from("team", "run://base", "pvc://claim/base-1/")] == [
        "a",
        "b",
    ]
    assert world.starting_from("team", "run://other", "pvc://claim/base-2/") == []


def as_a_kubelet_writes_it(index: int) -> Manifest:
    """The pod of a step that has ended, on a real node."""
    ended = {"exitCode": 0, "reason": "Completed", "message": "m" * 1200, "startedAt": TIME, "finishedAt": TIME}
    mounts = [{"name": f"volume-{n}", "mountPath": f"/path/{n}", "recursiveReadOnly": "Disabled"} for n in range(6)]
    container = {
        "name": "trainer",
        "image": "registry.example.com/team/slipway-train:0.1.0",
        "imageID": f"registry.example.com/team/slipway-train@sha256:{'0' * 64}",
        "containerID": f"containerd://{index:064}",
        "ready": False,
        "restartCount": 0,
        "started": False,
        "state": {"terminated": {**ended, "containerID": f"containerd://{index:064}"}},
        "lastState": {},
        "volumeMounts": mounts,
        "resources": {"requests": {"cpu": "1", "memory": "2Gi"}},
        "allocatedResources": {"cpu": "1", "memory": "2Gi"},
        "user": {"linux": {"uid": 65532, "gid": 65532, "supplementalGroups": [65532]}},
    }
    types = ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled")
    own = {"status": "True", "reason": "PodCompleted", "lastProbeTime": None, "lastTransitionTime": TIME}
    status = {
        "phase": "Succeeded",
        "conditions": [{"type": type_, **own} for type_ in types],
        "containerStatuses": [container],
        "hostIP": "10.0.0.1",
        "hostIPs": [{"ip": "10.0.0.1"}],
        "podIP": "10.244.0.9",
        "podIPs": [{"ip": "10.244.0.9"}],
        "qosClass": "Burstable",
        "startTime": TIME,
    }
    labels = {f"slipway.dev/label-{n}": f"value-{index}-{n}" for n in range(8)}
    metadata: Manifest = {
        "name": f"slipway-run-a-long-name-{index}",
        "namespace": "team",
        "uid": f"{index:036}",
    }
    metadata["labels"] = labels
    spec = {"nodeName": "node-1", "containers": [{"name": "trainer", "resources": container["resources"]}]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec, "status": status}


def test_as_many_runs_as_the_limit_says_have_room_for_what_belongs_to_them():
    _, pod = trimmed(as_a_kubelet_writes_it(1))
    limits = Limits()
    # A Job is lighter than its pod; four of each a run, and two records, which are metadata alone.
    assert limits.runs * (4 * 2 * pod + 2 * 1500) < limits.memory // 2, pod
