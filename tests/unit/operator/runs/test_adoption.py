"""A run that is created again goes on in the folder of the earlier one of its name, and no run in that of another."""

import asyncio
import copy
import json
from datetime import timedelta

import pytest
from tests.unit.operator.run_world import DIGEST, RunWorld
from tests.unit.operator.runs.test_retention import cleanup_done, delete, look_after, retention, roles

from slipway_core import plan as plans
from slipway_operator import names
from slipway_operator.kube import kinds
from slipway_operator.kube.errors import Conflict, QuotaExceeded
from slipway_operator.settings import Settings


def a_world(**options) -> RunWorld:
    return RunWorld(**{"settings": Settings(), **options})


def folder_of(world: RunWorld) -> str:
    return names.run_folder(world.name, world.uid)


def told_folder(job: dict) -> str:
    """The workspace that the process of a Job is told."""
    args = job["spec"]["template"]["spec"]["containers"][0]["args"]
    return args[args.index("--workspace") + 1].removeprefix("/workspace/")


def attempt_of(job: dict) -> int:
    args = job["spec"]["template"]["spec"]["containers"][0]["args"]
    return int(args[args.index("--attempt") + 1])


def ends(world: RunWorld) -> None:
    """The pods of the run that is gone have ended, and its Jobs went with it."""
    for pod in world.cluster.all(kinds.POD):
        world.cluster.remove(kinds.POD, "default", pod["metadata"]["name"])


def recreate(world: RunWorld, **spec) -> str:
    """Deletes the run and creates it again. Returns the folder of the earlier one."""
    folder = folder_of(world)
    delete(world)
    ends(world)
    world.spec |= spec
    world.create(world.name)
    assert folder_of(world) != folder
    return folder


def plan_of(record: dict) -> plans.Plan:
    return plans.load(record["data"]["plan.json"])


def test_D_a_run_that_is_created_again_goes_on_in_its_folder():
    world = a_world()
    world.train()
    folder = recreate(world)
    world.settle()
    job = world.job("prepare")
    assert told_folder(job) == folder
    assert attempt_of(job) == 100_001, "no fence in the folder is as high"
    assert world.run["status"]["folder"] == folder
    (record,) = roles(world, "plan")
    assert plan_of(record).run.uid == world.uid, "the record of the earlier run is gone"
    assert plan_of(record).workspace_folder == folder


def test_D_all_of_its_steps_are_counted_on_and_its_model_is_named_where_it_is():
    world = a_world()
    world.train()
    world.evaluate()
    folder = recreate(world)
    world.settle()
    for step in ("prepare", "learn"):
        world.end(step)
        world.settle()
    uri = f"file:///workspace/{folder}/artifact"
    world.end("export", result={"artifact": {"uri": uri, "digest": DIGEST}})
    world.settle()
    world.evaluate()
    assert [stage["attempt"] for stage in world.run["status"]["stages"]] == [100_001] * 4
    assert world.run["status"]["evaluation"]["number"] == 100_001, (
        "no report of the earlier run is taken for this one's"
    )
    assert world.run["status"]["artifact"]["uri"] == f"pvc://slipway-workspace/{folder}/artifact"
    world.serve()
    assert world.phase == "Serving"
    delete(world)
    look_after(world)
    (record,) = roles(world, "plan")
    assert record["metadata"]["annotations"][names.KEPT_BY] == "endpoint chat"


def test_it_says_once_that_it_goes_on_and_how_to_begin_at_zero():
    world = a_world()
    world.train()
    folder = recreate(world)
    world.settle()
    world.end("prepare")
    world.settle()
    said = [one["message"] for one in world.cluster.all(kinds.EVENT) if one["reason"] == "FolderAdopted"]
    assert len(said) == 1
    planned = world.condition("Planned")
    assert (planned["status"], planned["reason"]) == ("True", "FolderAdopted")
    for words in (said[0], planned["message"]):
        assert f"pvc://slipway-workspace/{folder}" in words
        assert "slipway rm --now demo" in words


def test_one_that_is_created_a_third_time_counts_on_from_there():
    world = a_world()
    world.settle()
    folder = recreate(world)
    world.settle()
    delete(world)
    ends(world)
    world.create("demo")
    world.settle()
    assert told_folder(world.job("prepare")) == folder
    assert attempt_of(world.job("prepare")) == 200_001


@pytest.mark.parametrize(
    "spec", [{"retries": 1}, {"storage": {"claimName": "other"}}], ids=["another plan", "another claim"]
)
def test_E_a_run_with_another_plan_or_claim_begins_in_its_own_folder(spec):
    world = a_world()
    world.settle()
    recreate(world, **spec)
    world.settle()
    assert told_folder(world.job("prepare")) == folder_of(world)
    assert attempt_of(world.job("prepare")) == 1
    assert len(roles(world, "plan")) == 2, "the folder of the earlier run stays for its grace"


def test_a_run_of_another_name_begins_in_its_own_folder():
    world = a_world()
    world.settle()
    delete(world)
    other = a_world(name="demo-2", cluster=world.cluster)
    other.settle()
    assert told_folder(other.job("prepare")) == folder_of(other)


def test_what_is_to_be_removed_at_once_is_gone_on_in_by_nobody():
    world = a_world()
    world.settle()
    delete(world)
    (record,) = roles(world, "plan")
    world.cluster.put({**record, "metadata": {**record["metadata"], "annotations": {"slipway.dev/remove": "now"}}})
    world.create("demo")
    world.settle()
    assert told_folder(world.job("prepare")) == folder_of(world)


def test_a_folder_of_which_something_was_removed_is_gone_on_in_by_nobody():
    world = a_world(settings=RunWorld().settings)
    world.settle()
    delete(world)
    look_after(world)
    cleanup_done(world)
    world.create("demo")
    world.settle()
    assert told_folder(world.job("prepare")) == folder_of(world)


@pytest.mark.parametrize("kept", [False, True], ids=["all of it", "all but the model"])
@pytest.mark.parametrize("how", ["failed", "restored"])
def test_a_folder_of_which_something_was_removed_stays_so_when_the_job_is_gone(kept: bool, how: str):
    """A cleanup that failed is made anew later, and a backup has no Jobs."""
    world = a_world()
    world.train()
    world.evaluate()
    if kept:
        world.serve()
    folder = folder_of(world)
    run = world.run
    delete(world)
    ends(world)
    look_after(world)
    world.now += timedelta(hours=25)
    look_after(world)
    (job,) = world.jobs()
    (record,) = roles(world, "plan")
    assert names.REMOVING in record["metadata"]["annotations"]
    if how == "failed":
        failed = {"conditions": [{"type": "Failed", "status": "True"}]}
        world.cluster.set_status(kinds.JOB, "default", job["metadata"]["name"], failed)
        look_after(world)
    else:
        world.cluster.remove(kinds.CONFIG_MAP, "default", record["metadata"]["name"])
        fresh = ("uid", "resourceVersion", "creationTimestamp")
        own = {name: value for name, value in record["metadata"].items() if name not in fresh}
        world.now += timedelta(hours=1)
        world.cluster.put({**record, "metadata": own})
        world.start_operator()
        look_after(world)
    assert [one for one in world.jobs() if one["metadata"]["labels"][names.ROLE] == "cleanup"] == []
    world.create("demo")
    world.settle()
    assert told_folder(world.job("prepare")) == folder_of(world) != folder

    # One that is back with its status would take for done what is gone.
    delete(world)
    world.cluster.put({**run, "metadata": {"name": "demo"}})
    world.reconcile()
    assert world.condition("Planned")["reason"] == "FolderRemoved"
    assert folder in world.condition("Planned")["message"]


def test_D_no_number_of_attempts_of_the_earlier_run_is_above_those_of_this_one():
    """A step that is preempted for weeks."""
    world = a_world()
    world.settle()
    world.end("prepare")
    world.settle()
    world.loses("learn")
    run = world.run
    for stage in run["status"]["stages"]:
        if stage["name"] == "learn":
            stage |= {"attempt": 12_000, "state": "Waiting"}
    world.cluster.put(run)
    world.settle()
    old = attempt_of(world.job("learn"))
    recreate(world)
    world.settle()
    world.end("prepare")
    world.settle()
    assert attempt_of(world.job("learn")) > old > 12_000


def test_D_it_waits_until_the_pods_of_the_earlier_run_have_ended():
    world = a_world()
    world.settle()
    pod = world.pod_of(world.job("prepare"))
    folder = folder_of(world)
    delete(world)
    world.create("demo")
    world.settle()
    assert world.jobs() == []
    assert world.condition("Planned")["reason"] == "EarlierRunEnds"
    assert pod["metadata"]["name"] in world.condition("Planned")["message"]
    look_after(world)
    assert len(roles(world, "plan")) == 1
    world.cluster.remove(kinds.POD, "default", pod["metadata"]["name"])
    world.settle()
    assert told_folder(world.job("prepare")) == folder


def test_D_it_waits_for_a_job_that_has_no_pod_yet():
    """A queue holds it, and it lost its owner to `--cascade=orphan`: it would train beside this run."""
    world = a_world()
    world.settle()
    old = copy.deepcopy(world.job("prepare"))
    folder = folder_of(world)
    delete(world)
    meta = {
        name: value for name, value in old["metadata"].items() if name not in ("ownerReferences", "resourceVersion")
    }
    world.cluster.put({**old, "metadata": meta})
    world.create("demo")
    world.settle()
    assert [job["metadata"]["uid"] for job in world.jobs()] == [old["metadata"]["uid"]]
    assert f"Job {old['metadata']['name']}" in world.condition("Planned")["message"]
    world.cluster.put({**old, "metadata": {**meta, "deletionTimestamp": "2026-01-01T12:00:00Z"}})
    world.settle()
    assert told_folder(world.job("prepare")) == folder


@pytest.mark.parametrize("managed", [True, False])
def test_H_a_pod_with_our_labels_and_no_job_keeps_nobody_waiting(managed: bool):
    world = a_world()
    world.train()
    folder = recreate(world)
    labels = names.step_labels("demo", "whatever", "learn", 1)
    if not managed:
        del labels[names.MANAGED_BY]
    metadata = {"name": "theirs", "labels": labels}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {}, "status": {"phase": "Running"}}
    world.cluster.put(pod)
    world.settle()
    assert told_folder(world.job("prepare")) == folder


def test_a_run_that_has_no_plan_yet_keeps_the_folder_that_it_may_go_on_in():
    world = a_world()
    world.settle()
    delete(world)
    assert look_after(world) == timedelta(hours=24)
    world.create("demo")
    world.now += timedelta(hours=25)
    assert look_after(world) == timedelta(seconds=30)
    assert world.jobs() == []


def test_F_an_operator_that_died_before_the_status_goes_on_in_the_folder():
    world = a_world()
    world.settle()
    folder = recreate(world)
    world.cluster.fail_next("update_status", kinds.TRAINING_RUN, Conflict("somebody was quicker"))
    with pytest.raises(Conflict):
        world.reconcile()
    assert len(roles(world, "plan")) == 2
    look_after(world)
    assert len(roles(world, "plan")) == 2, "until the status says it, the earlier record is the proof"
    world.start_operator()
    world.settle()
    assert told_folder(world.job("prepare")) == folder
    assert attempt_of(world.job("prepare")) == 100_001
    assert len(world.jobs()) == 1
    assert [plan_of(record).run.uid for record in roles(world, "plan")] == [world.uid]


def test_a_spec_that_is_edited_before_the_status_leaves_the_folder_to_its_grace():
    world = a_world()
    world.settle()
    folder = recreate(world)
    world.cluster.fail_next("update_status", kinds.TRAINING_RUN, Conflict("somebody was quicker"))
    with pytest.raises(Conflict):
        world.reconcile()
    world.edit(retries=1)
    world.start_operator()
    world.persist()
    assert told_folder(world.job("prepare")) == folder_of(world) != folder
    left = [plan_of(record).workspace_folder for record in roles(world, "plan")]
    assert sorted(left) == sorted([folder, folder_of(world)])


def restored(world: RunWorld, *, status: bool) -> str:
    """The objects come back from a backup, under another uid. Returns the folder."""
    folder, run = folder_of(world), world.run
    delete(world)
    ends(world)
    fresh = {**copy.deepcopy(run), "metadata": {"name": "demo"}}
    if not status:
        del fresh["status"]
    world.cluster.put(fresh)
    return folder


def test_D_a_run_that_is_restored_with_its_status_goes_on_at_the_next_attempt():
    world = a_world()
    world.settle()
    world.end("prepare")
    world.settle()
    folder = restored(world, status=True)
    world.start_operator()
    world.settle()
    assert world.record("prepare")["attempt"] == 1, "what is done stays done"
    assert attempt_of(world.job("learn")) == 100_001
    assert told_folder(world.job("learn")) == folder
    assert world.run["status"]["folder"] == folder
    assert len(roles(world, "plan")) == 1


def test_D_one_that_is_restored_without_its_records_goes_by_the_folder_of_its_status():
    world = a_world()
    world.settle()
    folder = restored(world, status=True)
    (record,) = roles(world, "plan")
    world.cluster.remove(kinds.CONFIG_MAP, "default", record["metadata"]["name"])
    world.start_operator()
    world.settle()
    assert told_folder(world.job("prepare")) == folder
    assert attempt_of(world.job("prepare")) == 100_001


def test_D_a_restored_status_of_an_older_release_is_enough_too():
    """It names no folder."""
    world = a_world()
    world.settle()
    folder = restored(world, status=True)
    run = world.run
    del run["status"]["folder"]
    world.cluster.put(run)
    world.start_operator()
    world.settle()
    assert told_folder(world.job("prepare")) == folder
    assert world.run["status"]["folder"] == folder


def test_a_run_that_is_over_is_restored_with_its_record():
    world = a_world(spec={"serving": None})
    world.train()
    world.evaluate()
    assert world.phase == "Completed"
    folder = restored(world, status=True)
    world.start_operator()
    world.settle()
    (record,) = roles(world, "plan")
    assert plan_of(record).workspace_folder == folder
    assert world.run["status"]["artifact"]["uri"].endswith(f"/{folder}/artifact")
    world.start_operator()
    before = len(world.cluster.writes)
    world.settle()
    assert len(world.cluster.writes) == before, "a pass that changes nothing writes nothing"


def test_E_an_upgrade_writes_no_folder_into_the_status_of_a_run_under_way():
    world = a_world()
    world.settle()
    run = world.run
    del run["status"]["folder"]
    world.cluster.put(run)
    world.start_operator()
    before = len(world.cluster.writes)
    world.settle()
    assert len(world.cluster.writes) == before


@pytest.mark.parametrize("pinned", [True, False], ids=["planned by this release", "planned by an older one"])
def test_H_a_record_that_somebody_wrote_moves_no_run_into_another_folder(pinned: bool):
    world = a_world()
    world.settle()
    if not pinned:
        run = world.run
        del run["status"]["folder"]
        world.cluster.put(run)
        job = world.job("prepare")
        del job["metadata"]["annotations"][names.FOLDER]
        world.cluster.put(job)
    (record,) = roles(world, "plan")
    plan = json.loads(record["data"]["plan.json"]) | {"folder": "demo-0badcafe", "attemptsBefore": 1000}
    world.cluster.remove(kinds.CONFIG_MAP, "default", record["metadata"]["name"])
    world.cluster.put({**record, "data": {"plan.json": json.dumps(plan)}})
    world.start_operator()
    if pinned:
        world.loses("prepare")
    else:
        world.end("prepare", code=75)
    world.settle()
    assert [told_folder(job) for job in world.jobs("prepare")] == [folder_of(world)] * len(world.jobs("prepare"))
    (record,) = roles(world, "plan")
    assert plan_of(record).folder is None


def loses_its_folder(world: RunWorld) -> None:
    """The status comes without the field: an older CRD pruned it, or an older release wrote the status of a backup."""
    run = world.run
    del run["status"]["folder"]
    world.cluster.put(run)
    world.start_operator()


def goes_on_in_an_earlier_folder() -> tuple[RunWorld, str]:
    world = a_world()
    world.train()
    folder = recreate(world)
    world.settle()
    world.end("prepare")
    world.settle()
    return world, folder


@pytest.mark.parametrize("left", ["record and Jobs", "record", "Jobs"])
def test_D_a_status_that_lost_its_folder_moves_nobody_out_of_it(left: str):
    world, folder = goes_on_in_an_earlier_folder()
    loses_its_folder(world)
    if left == "record":
        world.loses("prepare")
        world.loses("learn")
    if left == "Jobs":
        (record,) = roles(world, "plan")
        world.cluster.remove(kinds.CONFIG_MAP, "default", record["metadata"]["name"])
    world.persist()
    look_after(world)
    world.now += timedelta(hours=25)
    look_after(world)
    (record,) = roles(world, "plan")
    assert plan_of(record).workspace_folder == folder
    assert {told_folder(job) for job in world.jobs()} == {folder}, "and nothing of it is removed"


def test_D_an_operator_that_died_between_a_job_and_the_status_of_an_older_release_goes_on_in_the_folder():
    world = a_world()
    world.settle()
    world.end("prepare")
    world.settle()
    folder = restored(world, status=True)
    loses_its_folder(world)
    world.cluster.fail_next("update_status", kinds.TRAINING_RUN, Conflict("died"))
    with pytest.raises(Conflict):
        world.reconcile()
    world.start_operator()
    world.persist()
    look_after(world)
    world.now += timedelta(hours=25)
    look_after(world)
    assert {told_folder(job) for job in world.jobs()} == {folder}
    assert {plan_of(record).workspace_folder for record in roles(world, "plan")} == {folder}


@pytest.mark.parametrize("left", ["record", "Jobs", "nothing"])
def test_D_no_folder_is_removed_that_a_run_may_be_in_whose_status_lost_it(left: str):
    """The record of the earlier run is back, and retention looks before any pass of the run."""
    world = a_world()
    world.train()
    (earlier,) = roles(world, "plan")
    folder = recreate(world)
    world.settle()
    if left != "record":
        (record,) = roles(world, "plan")
        world.cluster.remove(kinds.CONFIG_MAP, "default", record["metadata"]["name"])
    if left != "Jobs":
        world.loses("prepare")
    loses_its_folder(world)
    world.cluster.put({**earlier, "metadata": {**earlier["metadata"], "uid": "restored"}})
    assert folder_of(world) != folder
    for _ in range(3):
        look_after(world)
        world.now += timedelta(hours=25)
    assert [job for job in world.jobs() if job["metadata"]["labels"][names.ROLE] == "cleanup"] == []


def test_D_where_nothing_says_the_folder_any_more_a_person_is_asked():
    world, folder = goes_on_in_an_earlier_folder()
    loses_its_folder(world)
    world.loses("prepare")
    world.loses("learn")
    (record,) = roles(world, "plan")
    world.cluster.remove(kinds.CONFIG_MAP, "default", record["metadata"]["name"])
    world.reconcile()
    assert world.jobs() == []
    assert world.condition("Planned")["reason"] == "FolderUnknown"
    world.cluster.put({name: value for name, value in record.items() if name != "status"})
    world.persist()
    assert {told_folder(job) for job in world.jobs()} == {folder}


def test_H_a_folder_that_is_not_called_like_a_run_of_that_name_is_refused():
    world = a_world()
    world.settle()
    (record,) = roles(world, "plan")
    plan = json.loads(record["data"]["plan.json"]) | {"folder": "somebody-0badcafe"}
    with pytest.raises(ValueError, match="somebody-0badcafe is not"):
        plans.load(json.dumps(plan))


def test_no_folder_is_removed_while_it_is_decided_who_goes_on_in_it():
    """Both look at the same time; whoever is first has it."""
    world = a_world(settings=RunWorld().settings)
    world.settle()
    folder = recreate(world)
    keeper = retention(world)
    keeper.deciding = world.reconciler.retention.deciding

    async def at_once() -> None:
        await asyncio.gather(world.reconciler.reconcile("default", "demo"), keeper.reconcile("default"))

    asyncio.run(at_once())
    roles_ = [job["metadata"]["labels"][names.ROLE] for job in world.jobs()]
    assert roles_ == ["step"]
    assert told_folder(world.job("prepare")) == folder


def test_an_attempt_that_a_quota_refuses_is_made_under_the_same_number_later():
    world = a_world()
    world.settle()
    folder = recreate(world)
    world.cluster.fail_next("create", kinds.JOB, QuotaExceeded("exceeded quota: gpus"))
    world.reconcile()
    assert world.jobs() == []
    world.settle()
    assert attempt_of(world.job("prepare")) == 100_001
    assert told_folder(world.job("prepare")) == folder


def test_a_run_that_goes_on_says_how_many_attempts_it_has_made_itself():
    world = a_world(spec={"retries": 0})
    world.settle()
    recreate(world)
    world.settle()
    world.end("prepare", code=1)
    world.settle()
    assert world.condition("Progressing")["message"].startswith("prepare failed: ")
