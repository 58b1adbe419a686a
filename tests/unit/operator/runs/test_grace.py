"""What deleted runs leave stays for the grace of the settings: nothing is destroyed at once."""

import asyncio
from datetime import timedelta

import pytest
from tests.unit.operator.run_world import RunWorld
from tests.unit.operator.runs.test_retention import (
    cleanup_done,
    delete,
    forge_record,
    look_after,
    records,
    retention,
    roles,
    trained_from,
    trimmed,
)

from slipway_core.resources.conditions import timestamp
from slipway_operator import names
from slipway_operator.kube import kinds, resources
from slipway_operator.settings import Retention, Settings

DAY = timedelta(hours=24)
SETTINGS = Settings()


def a_world(name: str = "demo", **options) -> RunWorld:
    return RunWorld(name=name, **{"settings": SETTINGS, **options})


def gone(world: RunWorld) -> RunWorld:
    """The run was planned, made a Job, and is deleted; retention has seen that."""
    world.settle()
    delete(world)
    assert look_after(world) == DAY
    return world


def served() -> RunWorld:
    world = a_world()
    world.train()
    world.evaluate()
    world.serve()
    delete(world)
    return world


def notes(world: RunWorld, run: str = "demo") -> dict[str, str]:
    (record,) = [one for one in roles(world, "plan") if one["metadata"]["labels"][names.RUN] == run]
    return record["metadata"].get("annotations", {})


def annotate(world: RunWorld, **own: str) -> None:
    (record,) = roles(world, "plan")
    told = {f"slipway.dev/{name.replace('_', '-')}": value for name, value in own.items()}
    annotations = {**record["metadata"].get("annotations", {}), **told}
    world.cluster.put({**record, "metadata": {**record["metadata"], "annotations": annotations}})


def test_nothing_is_removed_before_the_grace_is_over():
    world = gone(a_world())
    folder = f"slipway-workspace/{names.run_folder('demo', notes_uid(world))}"
    assert notes(world) == {names.ORPHANED_AT: timestamp(world.now), names.FOLDER: folder}
    world.now += DAY - timedelta(seconds=1)
    assert (look_after(world), world.jobs()) == (timedelta(seconds=1), [])
    world.now += timedelta(seconds=1)
    look_after(world)
    assert len(world.jobs()) == 1
    cleanup_done(world)
    look_after(world)
    assert records(world) == []


def notes_uid(world: RunWorld) -> str:
    (record,) = roles(world, "plan")
    return record["metadata"]["labels"][names.RUN_UID]


def test_a_pass_that_changes_nothing_writes_and_reads_nothing():
    world = gone(a_world())
    keeper = retention(world)
    asyncio.run(keeper.reconcile("default"))
    before = len(world.cluster.writes)
    world.cluster.get = None  # type: ignore[assignment,method-assign]
    assert asyncio.run(keeper.reconcile("default")) == DAY
    assert len(world.cluster.writes) == before


def test_an_event_says_what_is_left_until_when_and_what_to_do():
    world = gone(a_world())
    (event,) = [one for one in world.cluster.all(kinds.EVENT) if one["reason"] == "FolderOrphaned"]
    assert event["involvedObject"]["kind"] == "ConfigMap"
    said = event["message"]
    assert "pvc://slipway-workspace/demo-" in said
    assert "24 h 0 min" in said
    folder = said.split("pvc://slipway-workspace/")[1].split(" ")[0]
    assert f"`slipway rm --now {folder}` removes it at once" in said, "a run of its name may be there by now"


def test_what_is_left_is_counted():
    world = gone(a_world())
    assert world.cluster.world.count_orphans() == 1
    world.create("other")
    assert world.cluster.world.count_orphans() == 1


def test_whoever_asks_for_it_has_it_removed_at_once():
    world = gone(a_world())
    annotate(world, remove="now")
    look_after(world)
    assert len(world.jobs()) == 1


def test_a_run_that_the_api_server_has_is_marked_by_nobody():
    """The cache is behind."""
    world = a_world()
    world.settle()
    run = world.run
    world.cluster.world.remove(run)
    look_after(world)
    assert notes(world) == {}


@pytest.mark.parametrize("mark", ["2999-01-01T00:00:00Z", "yesterday", "2025-01-01T00:00:00Z", ""])
def test_a_mark_that_cannot_be_relied_upon_begins_anew(mark: str):
    """It is ahead, no time, or older than its record, which then came back from a backup: gone is gone since now."""
    world = a_world()
    world.settle()
    delete(world)
    annotate(world, orphaned_at=mark)
    assert look_after(world) == DAY
    assert notes(world)[names.ORPHANED_AT] == timestamp(world.now)
    assert world.jobs() == []


def test_the_checkpoints_of_a_model_that_is_served_stay_for_the_grace_too():
    world = served()
    look_after(world)
    assert notes(world)[names.KEPT_BY] == "endpoint chat"
    assert [job for job in world.jobs() if job["metadata"]["labels"][names.ROLE] == names.CLEANUP] == []
    world.now += DAY
    look_after(world)
    assert trimmed(world)


@pytest.mark.parametrize("trimmed_before", [False, True])
def test_B_a_model_that_an_endpoint_kept_has_the_grace_from_when_nothing_names_it(trimmed_before: bool):
    world = served()
    look_after(world)
    if trimmed_before:
        world.now += DAY
        look_after(world)
        done = {"conditions": [{"type": "Complete", "status": "True"}]}
        world.cluster.set_status(kinds.JOB, "default", world.jobs()[-1]["metadata"]["name"], done)
        assert look_after(world) is None
    world.now += timedelta(hours=23)
    world.cluster.remove(kinds.MODEL_ENDPOINT, "default", "chat")
    assert look_after(world) == DAY
    assert names.KEPT_BY not in notes(world)
    before = len(world.jobs())
    world.now += DAY - timedelta(minutes=1)
    look_after(world)
    assert len(world.jobs()) == before
    world.now += timedelta(minutes=1)
    look_after(world)
    assert len(world.jobs()) == before + 1
    assert not trimmed(world)


def test_who_is_under_way_and_starts_from_a_model_is_named():
    base = a_world("first", spec={"serving": None})
    base.train()
    base.evaluate()
    trained_from(base, serving=None)
    delete(base)
    look_after(base)
    assert notes(base, "first")[names.KEPT_BY] == "run second"


def test_a_record_that_nobody_can_read_is_neither_marked_nor_followed():
    world = a_world()
    world.settle()
    delete(world)
    (record,) = roles(world, "plan")
    world.cluster.put({**record, "data": {"plan.json": "{}"}})
    assert look_after(world) is None
    assert notes(world) == {}


def test_an_operator_that_starts_goes_by_the_mark():
    world = gone(a_world())
    world.now += timedelta(hours=20)
    assert look_after(world) == timedelta(hours=4)


def test_without_a_grace_nothing_is_marked():
    world = a_world(settings=Settings(retention=Retention(grace="0s")))
    world.settle()
    delete(world)
    look_after(world)
    assert names.ORPHANED_AT not in notes(world)
    assert len(world.jobs()) == 1


def test_a_wish_for_removal_at_once_does_not_outlive_its_run_not_being_deleted():
    """A deletion later on that nobody means has its grace."""
    world = a_world()
    world.settle()
    annotate(world, remove="now")
    world.settle()
    assert "slipway.dev/remove" not in notes(world)
    delete(world)
    assert look_after(world) == DAY


@pytest.mark.parametrize("how", ["gone and not told yet", "in the foreground"])
def test_a_wish_for_removal_at_once_stays_with_a_run_that_is_deleted(how: str):
    """`slipway rm --now` of a run that is there: the record's annotation may be told before the run's deletion is."""
    world = a_world()
    world.settle()
    run = world.run
    if how == "in the foreground":
        ending = {**run, "metadata": {**run["metadata"], "deletionTimestamp": timestamp(world.now)}}
        world.cluster.objects["TrainingRun", "default", "demo"] = ending
    else:
        del world.cluster.objects["TrainingRun", "default", "demo"]
    annotate(world, remove="now")
    asyncio.run(world.reconciler.retention.is_back(resources.run(run)))
    assert notes(world)["slipway.dev/remove"] == "now"


def test_a_clock_that_is_behind_the_api_servers_marks_once():
    world = a_world()
    world.settle()
    delete(world)
    (record,) = roles(world, "plan")
    ahead = timestamp(world.now + timedelta(minutes=5))
    world.cluster.put({**record, "metadata": {**record["metadata"], "creationTimestamp": ahead}})
    look_after(world)
    before = len(world.cluster.writes)
    for _ in range(5):
        world.now += timedelta(seconds=1)
        look_after(world)
    assert len(world.cluster.writes) == before
    world.now += DAY + timedelta(minutes=5)
    look_after(world)
    assert len(world.jobs()) == 1


# ------------------------------------------------------------------------------------------------- few at a time


def left_by(number: int, settings: Settings) -> list[RunWorld]:
    """What so many runs left, of which each is due."""
    worlds = [a_world("run-0", settings=settings)]
    for index in range(1, number):
        worlds.append(a_world(f"run-{index}", settings=settings, cluster=worlds[0].cluster))
    for world in worlds:
        world.settle()
        delete(world)
    return worlds


def cleanups(world: RunWorld) -> list[str]:
    return [
        job["metadata"]["labels"][names.RUN]
        for job in world.cluster.all(kinds.JOB)
        if job["metadata"]["labels"].get(names.ROLE) == names.CLEANUP
    ]


def test_few_folders_are_removed_at_a_time_and_who_waits_longest_is_next():
    worlds = left_by(4, Settings(retention=Retention(grace="0s", cleanup_jobs=2)))
    world = worlds[0]
    keeper = retention(world)
    assert asyncio.run(keeper.reconcile("default")) == timedelta(minutes=1)
    assert cleanups(world) == ["run-0", "run-1"]
    assert len(world.cluster.world.removals.all()) == 2
    # The last in the line is looked at first: it is not its turn.
    for uid in [key.name for key in reversed(world.cluster.world.removals.all())]:
        asyncio.run(keeper.reconcile("default", uid=uid))
    assert len(cleanups(world)) == 2
    cleanup_done(worlds[0])
    first, last = [key.name for key in world.cluster.world.removals.all()]
    asyncio.run(keeper.reconcile("default", uid=last))
    assert cleanups(world) == ["run-0", "run-1"]
    asyncio.run(keeper.reconcile("default", uid=first))
    assert cleanups(world) == ["run-0", "run-1", "run-2"]


def test_who_waits_and_is_kept_after_all_keeps_nobody_waiting():
    worlds = left_by(3, Settings(retention=Retention(grace="0s", cleanup_jobs=1)))
    world = worlds[0]
    keeper = retention(world)
    asyncio.run(keeper.reconcile("default"))
    record = next(one for one in roles(world, "plan") if one["metadata"]["labels"][names.RUN] == "run-1")
    world.cluster.remove(kinds.CONFIG_MAP, "default", record["metadata"]["name"])
    cleanup_done(worlds[0])
    asyncio.run(keeper.reconcile("default"))
    assert cleanups(world)[-1] == "run-2"


def test_a_cleanup_that_finds_no_place_keeps_no_other_namespace_waiting():
    worlds = left_by(2, Settings(retention=Retention(grace="0s", cleanup_jobs=1)))
    look_after(worlds[0])
    assert cleanups(worlds[0]) == ["run-0"]
    worlds[0].now += timedelta(minutes=3)
    look_after(worlds[0])
    assert cleanups(worlds[0]) == ["run-0", "run-1"]


def test_one_that_is_at_work_keeps_its_turn_however_long_it_takes():
    worlds = left_by(2, Settings(retention=Retention(grace="0s", cleanup_jobs=1)))
    look_after(worlds[0])
    (job,) = worlds[0].jobs()
    worlds[0].cluster.set_status(kinds.JOB, "default", job["metadata"]["name"], {"active": 1, "ready": 1})
    worlds[0].now += timedelta(minutes=9)
    look_after(worlds[0])
    assert cleanups(worlds[0]) == ["run-0"]


def test_H_a_forged_record_is_not_marked_where_its_folder_is_a_living_runs():
    world = a_world()
    run = world.run
    world.cluster.remove(kinds.TRAINING_RUN, "default", "demo")
    world.cluster.put({**run, "metadata": {"name": "demo", "uid": "0b5e1a52-7f0e-4f6e-9d56-0b6a1c7f3c11"}})
    world.settle()
    forge_record(world, "0b5e1a52-0000-0000-0000-000000000000")
    assert look_after(world) is None
    assert notes(world) == {}
