"""What deleted runs leave: cleaned up one by one, whatever becomes of the others, and no verdict that is needed."""

import asyncio
import json
from datetime import timedelta

import pytest
from tests.unit.operator.run_world import RunWorld

from slipway_operator import names
from slipway_operator.kube import kinds
from slipway_operator.kube.errors import Invalid
from slipway_operator.runs.retention import Retention

DONE = {"conditions": [{"type": "Complete", "status": "True"}]}


def retention(world: RunWorld) -> Retention:
    """Of a new operator process."""
    cluster, cache = world.cluster, world.cluster.world
    records = world.reader()
    deciding = asyncio.Lock()
    return Retention(cluster, cache, world.settings, lambda: world.now, records, deciding)  # type: ignore[arg-type]


def look_after(world: RunWorld) -> timedelta | None:
    """A pass over the namespace."""
    return asyncio.run(retention(world).reconcile("default"))


def delete(world: RunWorld) -> None:
    world.cluster.remove(kinds.TRAINING_RUN, "default", world.name)


def cleanup_done(world: RunWorld) -> None:
    (job,) = world.jobs()
    world.cluster.set_status(kinds.JOB, "default", job["metadata"]["name"], DONE)


def records(world: RunWorld) -> list[str]:
    return [cm["metadata"]["labels"]["slipway.dev/run"] for cm in roles(world, "plan")]


def roles(world: RunWorld, role: str) -> list[dict]:
    return [cm for cm in world.cluster.all(kinds.CONFIG_MAP) if cm["metadata"]["labels"][names.ROLE] == role]


def test_A_a_verdict_stays_for_the_other_run_that_made_the_same_model():
    world = RunWorld(name="first")
    world.train()
    world.evaluate()
    world.serve()
    other = RunWorld(name="second", cluster=world.cluster)
    other.now += timedelta(hours=1)
    other.train()
    other.evaluate()
    other.serve()
    delete(world)
    look_after(world)
    cleanup_done(world)
    look_after(world)
    assert records(world) == ["second"]
    kept = [one["data"]["run"] for one in world.judgements()]
    assert kept == ["first", "second"], "also the judgement of the run that is gone, while its endpoint is there"
    world.cluster.remove(kinds.MODEL_ENDPOINT, "default", "chat")
    delete(other)
    look_after(other)
    cleanup_done(other)
    look_after(other)
    assert world.cluster.all(kinds.CONFIG_MAP) == [], "the last one takes it along"


def test_what_was_judged_for_an_endpoint_stays_as_long_as_that_one_whatever_it_serves():
    world = RunWorld(name="first")
    endpoint = {"apiVersion": "slipway.dev/v1alpha1", "kind": "ModelEndpoint", "metadata": {"name": "chat"}}
    world.cluster.put({**endpoint, "spec": {}})
    world.train()
    world.evaluate(perplexity=99)
    other = RunWorld(name="second", cluster=world.cluster)
    other.settle()

    def goes(run: RunWorld) -> list[str]:
        delete(run)
        look_after(run)
        cleanup_done(run)
        look_after(run)
        return [one["data"]["verdict"] for one in world.judgements()]

    assert goes(world) == ["Fail"]
    world.cluster.remove(kinds.MODEL_ENDPOINT, "default", "chat")
    assert goes(other) == []


def test_what_one_record_is_refused_for_keeps_no_other_waiting():
    world = RunWorld(name="first")
    world.settle()
    other = RunWorld(name="second", cluster=world.cluster)
    other.settle()
    delete(world)
    delete(other)
    world.cluster.fail_next("create", kinds.JOB, Invalid("spec.template: no"))
    with pytest.raises(Invalid):
        look_after(world)
    assert (len(world.jobs()), len(other.jobs())) == (0, 1)
    look_after(world)
    assert len(world.jobs()) == 1


@pytest.mark.parametrize(("field", "value"), [("namespace", "other-team"), ("uid", "f" * 36), ("name", "other")])
def test_H_a_record_that_is_about_another_run_cleans_nothing(field: str, value: str):
    world = RunWorld()
    world.settle()
    (record,) = roles(world, "plan")
    plan = json.loads(record["data"]["plan.json"])
    plan["run"][field] = value
    world.cluster.put({**record, "data": {"plan.json": json.dumps(plan)}})
    delete(world)
    look_after(world)
    assert world.cluster.all(kinds.JOB) == []


def test_an_event_of_what_one_run_left_looks_at_nothing_else():
    world = RunWorld(name="first")
    world.settle()
    other = RunWorld(name="second", cluster=world.cluster)
    other.settle()
    delete(world)
    delete(other)
    uid = next(label[names.RUN_UID] for label in (cm["metadata"]["labels"] for cm in roles(world, "plan")))
    asyncio.run(retention(world).reconcile("default", uid=uid))
    assert (len(world.jobs()), len(other.jobs())) == (1, 0)


def test_where_no_run_is_gone_nothing_is_read():
    world = RunWorld()
    world.settle()
    world.cluster.get = None  # type: ignore[assignment,method-assign]
    world.cluster.world.all = None  # type: ignore[assignment,method-assign]
    assert look_after(world) is None


def test_a_cleanup_that_is_under_way_is_not_asked_about():
    world = RunWorld()
    world.settle()
    delete(world)
    look_after(world)
    asked = []
    world.cluster.get = lambda *about: asked.append(about)  # type: ignore[assignment,method-assign]
    assert look_after(world) is None
    assert asked == []


@pytest.mark.parametrize("already_cleaning", [False, True])
def test_a_claim_that_is_gone_needs_no_cleaning(already_cleaning: bool):
    world = RunWorld()
    world.settle()
    delete(world)
    if already_cleaning:
        look_after(world)
    world.cluster.remove(kinds.CLAIM, "default", names.WORKSPACE_CLAIM)
    world.now += timedelta(minutes=11)
    look_after(world)
    assert (world.jobs(), records(world)) == ([], [])


def trained_from(base: RunWorld, **spec) -> RunWorld:
    """A run that is under way, and whose stages start from another one's model."""
    artifact = base.run["status"]["artifact"]["uri"]
    world = RunWorld(name="second", cluster=base.cluster, spec={"model": {"from": "run://first"}, **spec})
    world.settle()
    assert artifact in roles(world, "plan")[-1]["data"]["plan.json"]
    return world


def trimmed(world: RunWorld) -> bool:
    """Whether the cleanup that runs leaves the artifact."""
    *_, job = world.jobs()
    return "--keep-artifact" in job["spec"]["template"]["spec"]["containers"][0]["args"]


@pytest.mark.parametrize("stopped_by", ["nothing", "suspension", "failure"])
def test_E_the_base_model_of_a_run_that_may_go_on_stays(stopped_by: str):
    base = RunWorld(name="first", spec={"serving": None})
    base.train()
    base.evaluate()
    world = trained_from(base, serving=None, retries=0)
    if stopped_by == "suspension":
        world.edit(suspend=True)
    if stopped_by == "failure":
        world.end("prepare", code=1)
    world.settle()
    delete(base)
    look_after(base)
    assert trimmed(base)
    cleanup_done(base)
    assert look_after(base) is not None, "no event tells that the other run is over"
    assert records(base) == ["first", "second"]


def test_a_base_model_goes_when_the_run_that_started_from_it_is_over():
    base = RunWorld(name="first", spec={"serving": None})
    base.train()
    base.evaluate()
    world = trained_from(base, serving=None)
    delete(base)
    look_after(base)
    cleanup_done(base)
    world.train()
    world.evaluate()
    assert world.phase == "Completed"
    look_after(base)
    assert not trimmed(base)
    base.cluster.set_status(kinds.JOB, "default", base.jobs()[-1]["metadata"]["name"], DONE)
    look_after(base)
    assert records(base) == ["second"]


def test_B_what_a_living_run_says_of_an_endpoints_history_counts_for_the_runs_that_are_gone():
    world = RunWorld(name="first", spec={"retention": {"keepArtifacts": 1}})
    world.train()
    world.evaluate()
    world.serve()
    endpoint = world.cluster.one(kinds.MODEL_ENDPOINT, "chat")
    mine = endpoint["status"]["live"]
    others = [{**mine, "version": number, "uri": f"pvc://slipway-workspace/run-{number}/artifact"} for number in (2, 3)]
    history = [{**version, "state": "Retired"} for version in (others[0], mine)]
    spec = {**endpoint["spec"], "model": {**endpoint["spec"]["model"], "uri": others[1]["uri"]}}
    world.cluster.put(
        {**endpoint, "spec": spec, "status": {**endpoint["status"], "live": others[1], "history": history}}
    )
    later = RunWorld(name="second", cluster=world.cluster, spec={"retention": {"keepArtifacts": 1}})
    later.settle()
    delete(world)
    later.edit(retention={"keepArtifacts": 2})
    look_after(world)
    assert trimmed(world)


def test_H_a_record_chooses_no_image():
    world = RunWorld()
    world.settle()
    (record,) = roles(world, "plan")
    text = record["data"]["plan.json"].replace(world.settings.images.train, "evil:1")
    assert text != record["data"]["plan.json"]
    delete(world)
    world.cluster.put({**record, "data": {"plan.json": text}})
    look_after(world)
    *_, job = world.jobs()
    assert job["spec"]["template"]["spec"]["containers"][0]["image"] == world.settings.images.train


def forge_record(world: RunWorld, uid: str, **plan: object) -> None:
    """Somebody makes a record of a plan, whose run is another one and whose folder is called like this run's."""
    (record,) = roles(world, "plan")
    document = json.loads(record["data"]["plan.json"])
    document["run"]["uid"] = uid
    document |= plan
    world.cluster.remove(kinds.CONFIG_MAP, "default", record["metadata"]["name"])
    labels = {**record["metadata"]["labels"], names.RUN_UID: uid}
    metadata = {"name": names.plan(world.name, uid), "labels": labels}
    world.cluster.put({**record, "metadata": metadata, "data": {"plan.json": json.dumps(document)}})


@pytest.mark.parametrize("cache_is_behind", [False, True])
def test_H_a_forged_record_has_the_folder_of_a_living_run_deleted_by_nobody(cache_is_behind: bool):
    """A folder has the first 8 digits of a uid in its name, and so has a record."""
    world = RunWorld()
    run = world.run
    world.cluster.remove(kinds.TRAINING_RUN, "default", "demo")
    world.cluster.put({**run, "metadata": {"name": "demo", "uid": "0b5e1a52-7f0e-4f6e-9d56-0b6a1c7f3c11"}})
    world.settle()
    forge_record(world, "0b5e1a52-0000-0000-0000-000000000000")
    if cache_is_behind:
        world.cluster.world.remove(world.run)
    before = [job["metadata"]["name"] for job in world.jobs()]
    look_after(world)
    assert [job["metadata"]["name"] for job in world.jobs()] == before


def test_a_cleanup_that_is_not_ours_is_done_again():
    world = RunWorld()
    world.settle()
    delete(world)
    look_after(world)
    (job,) = world.jobs()
    job["spec"]["template"]["spec"]["containers"][0]["command"] = ["true"]
    world.cluster.put({**job, "status": DONE})
    assert look_after(world) is not None
    assert records(world) == ["demo"], "nobody knows whether the folder is gone"
    look_after(world)
    (again,) = world.jobs()
    assert again["metadata"]["uid"] != job["metadata"]["uid"]
    cleanup_done(world)
    look_after(world)
    assert records(world) == []


def test_a_cluster_that_changes_every_job_is_told_of_and_gets_ever_fewer_of_them():
    world = RunWorld()
    world.settle()
    delete(world)
    looks = retention(world)
    made: set[str] = set()
    for _ in range(24 * 6):
        for job in world.jobs():
            if not job.get("status"):
                made.add(job["metadata"]["uid"])
                job["spec"]["template"]["spec"]["containers"].append({"name": "proxy"})
                world.cluster.put({**job, "status": DONE})
        for _ in range(3):
            asyncio.run(looks.reconcile("default"))
            world.now += timedelta(seconds=30)
        world.now += timedelta(minutes=8, seconds=30)
    assert 3 <= len(made) <= 9, "a day has 2,880 half minutes"
    assert records(world) == ["demo"], "nobody knows whether the folder is gone"
    (told,) = [event for event in world.cluster.all(kinds.EVENT) if event["reason"] == "CleanupChanged"]
    assert told["involvedObject"]["kind"] == "ConfigMap"
    assert "its number of containers differs" in told["message"]
    assert "a mutating webhook" in told["message"]
    # The webhook was mended.
    world.now += timedelta(days=1)
    asyncio.run(looks.reconcile("default"))
    asyncio.run(looks.reconcile("default"))
    cleanup_done(world)
    asyncio.run(looks.reconcile("default"))
    assert records(world) == []


def test_B_a_record_alone_says_of_no_endpoint_that_its_history_may_go():
    world = RunWorld(name="first")
    world.train()
    world.evaluate()
    world.serve()
    endpoint = world.cluster.one(kinds.MODEL_ENDPOINT, "chat")
    mine = endpoint["status"]["live"]
    other = {**mine, "version": 2, "uri": "pvc://slipway-workspace/run-2/artifact"}
    spec = {**endpoint["spec"], "model": {**endpoint["spec"]["model"], "uri": other["uri"]}}
    history = [{**other, "version": 3, "state": "Retired"}, {**mine, "state": "Retired"}]
    world.cluster.put({**endpoint, "spec": spec, "status": {**endpoint["status"], "live": other, "history": history}})
    forge_record(world, world.uid, retention={"keepArtifacts": 1})
    delete(world)
    look_after(world)
    assert trimmed(world)
