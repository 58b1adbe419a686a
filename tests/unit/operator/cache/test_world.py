from hypothesis import given
from hypothesis import strategies as st
from tests.unit.operator.cached import RUN_UID, an_object, of_run

from slipway_operator import names
from slipway_operator.cache.key import Key
from slipway_operator.cache.world import World, version_of
from slipway_operator.kube.kinds import CONFIG_MAP, JOB, MODEL_ENDPOINT, POD, SERVICE, TRAINING_RUN
from slipway_operator.kube.manifest import Manifest


def a_world(*manifests) -> World:
    world = World()
    for manifest in manifests:
        world.put(manifest)
    return world


def version_held(world: World, kind, name: str) -> int | None:
    held = world.get(kind, "team", name)
    return None if held is None else version_of(held)


def test_the_newer_version_wins_in_whatever_order_they_are_told():
    world = World()
    assert world.put(an_object(POD, "a", 10))
    assert not world.put(an_object(POD, "a", 9))
    assert not world.put(an_object(POD, "a", 10)), "the same version is no news"
    assert version_held(world, POD, "a") == 10


def test_versions_are_compared_as_numbers():
    world = a_world(an_object(POD, "a", 9))
    assert world.put(an_object(POD, "a", 10))


def test_a_late_event_does_not_bring_a_deleted_object_back():
    world = a_world(an_object(JOB, "a", 5))
    world.remove(an_object(JOB, "a", 8))
    assert not world.put(an_object(JOB, "a", 7))
    assert world.get(JOB, "team", "a") is None


def test_an_object_that_was_deleted_before_it_was_ever_told_stays_away():
    world = World()
    world.remove(an_object(JOB, "a", 8))
    assert not world.put(an_object(JOB, "a", 7))


def test_another_object_of_the_same_name_takes_the_place_of_a_deleted_one():
    world = a_world(an_object(JOB, "a", 5, uid="old"))
    assert world.put(an_object(JOB, "a", 9, uid="new"))
    world.remove(an_object(JOB, "a", 8, uid="old"))
    assert version_held(world, JOB, "a") == 9


def test_an_object_that_gets_its_label_back_is_there_again():
    # Without the label that is watched for, a watch says DELETED of an object that still exists.
    world = a_world(an_object(JOB, "a", 5))
    world.remove(an_object(JOB, "a", 8))
    assert world.put(an_object(JOB, "a", 9))


@given(st.permutations([("put", 3), ("put", 4), ("remove", 6), ("put", 5)]))
def test_whatever_the_order_of_events_a_deletion_is_the_end(events):
    world = World()
    for what, version in events:
        (world.put if what == "put" else world.remove)(an_object(JOB, "a", version, labels=of_run()))
    assert world.get(JOB, "team", "a") is None
    assert world.of_run(JOB, "team", RUN_UID) == []


def test_what_belongs_to_a_run_is_found_by_its_uid_and_kind():
    world = a_world(
        an_object(JOB, "a", 1, labels=of_run()),
        an_object(POD, "a-0", 2, labels=of_run()),
        an_object(JOB, "b", 3, labels=of_run("another")),
        an_object(JOB, "a", 4, labels=of_run(), namespace="elsewhere"),
    )
    assert [job["metadata"]["name"] for job in world.of_run(JOB, "team", RUN_UID)] == ["a"]
    assert [pod["metadata"]["name"] for pod in world.of_run(POD, "team", RUN_UID)] == ["a-0"]


def test_an_object_leaves_its_run_when_it_goes_or_loses_the_label():
    world = a_world(an_object(JOB, "a", 1, labels=of_run()), an_object(JOB, "b", 2, labels=of_run()))
    world.remove(an_object(JOB, "a", 3, labels=of_run()))
    world.put(an_object(JOB, "b", 4))
    assert world.of_run(JOB, "team", RUN_UID) == []


def test_what_belongs_to_an_endpoint_is_found_by_its_whole_name():
    name = "an-endpoint-with-a-name-that-is-longer-than-the-value-of-a-label-may-be"
    world = a_world(an_object(SERVICE, name, labels=names.endpoint_labels(name)))
    assert len(world.of_endpoint(SERVICE, "team", name)) == 1


def test_the_owner_has_its_whole_name_whatever_the_label_shortened():
    name = "a-run-with-a-name-that-is-longer-than-the-value-of-a-label-may-be-is"
    run = an_object(TRAINING_RUN, name, uid=RUN_UID)
    pod = an_object(POD, "p", labels=of_run(run=name))
    assert a_world(run, pod).owner(pod) == Key("TrainingRun", "team", name)
    endpoint = an_object(MODEL_ENDPOINT, name)
    service = an_object(SERVICE, "s", labels=names.endpoint_labels(name))
    assert a_world(endpoint, service).owner(service) == Key("ModelEndpoint", "team", name)


def test_what_a_deleted_run_left_is_looked_after_by_the_uid_of_that_run():
    plan = an_object(CONFIG_MAP, "demo-plan", labels=of_run())
    assert a_world(plan).owner(plan) == Key("Namespace", "team", RUN_UID)


def test_somebody_elses_object_has_no_owner():
    pod = an_object(POD, "p")
    assert a_world(pod).owner(pod) is None


def test_the_runs_of_an_endpoint_are_those_that_name_it():
    world = a_world(
        an_object(TRAINING_RUN, "a", spec={"serving": {"endpoint": "chat"}}),
        an_object(TRAINING_RUN, "b", spec={"serving": {"endpoint": "other"}}),
        an_object(TRAINING_RUN, "c", spec={}),
    )
    assert [run["metadata"]["name"] for run in world.runs_for("team", "chat")] == ["a"]


def resync(world: World, jobs: list[Manifest]) -> list[Key]:
    """Takes all Jobs as a list of resourceVersion 10 had them."""
    sweep = world.sweep(JOB)
    sweep.see(jobs)
    return sweep.finish("10")


def test_a_resync_prunes_what_is_gone_and_names_the_owners_of_what_changed():
    run = an_object(TRAINING_RUN, "demo", 1, uid=RUN_UID)
    world = a_world(run, an_object(JOB, "gone", 2, labels=of_run()), an_object(JOB, "same", 3))
    assert resync(world, [an_object(JOB, "same", 3)]) == [Key("TrainingRun", "team", "demo")]
    assert world.get(JOB, "team", "gone") is None
    assert not world.put(an_object(JOB, "gone", 4, labels=of_run())), "a late event of what a list has not"


def test_a_resync_keeps_what_is_newer_than_its_list():
    world = a_world(an_object(JOB, "made-meanwhile", 12))
    assert resync(world, []) == []
    assert version_held(world, JOB, "made-meanwhile") == 12


def test_a_resync_of_some_namespaces_leaves_the_others_alone():
    world = a_world(an_object(JOB, "a", 1), an_object(JOB, "a", 2, namespace="elsewhere"))
    sweep = world.sweep(JOB, ["team"])
    sweep.see([])
    sweep.finish("10")
    assert [job["metadata"]["namespace"] for job in world.all(JOB)] == ["elsewhere"]


def test_a_resync_that_changes_nothing_wakes_nobody():
    job = an_object(JOB, "a", 3, labels=of_run())
    assert resync(a_world(an_object(TRAINING_RUN, "demo", uid=RUN_UID), job), [job]) == []


def test_what_nobody_reads_is_not_kept_and_the_callers_object_is_not_touched():
    job = an_object(JOB, "a")
    job["metadata"]["managedFields"] = [{"manager": "kubectl"}]
    job["metadata"]["annotations"] = {"kubectl.kubernetes.io/last-applied-configuration": "{}", "mine": "yes"}
    kept = a_world(job).get(JOB, "team", "a")
    assert kept is not None
    assert "managedFields" not in kept["metadata"]
    assert kept["metadata"]["annotations"] == {"mine": "yes"}
    assert "managedFields" in job["metadata"]


def test_a_mark_of_judgements_is_another_one_after_every_change_of_theirs_and_of_nothing_else():
    world = World()
    seen: list[int] = []

    def changes() -> bool:
        """Whether the mark is one that was never seen."""
        seen.append(world.mark("team", names.DIGEST, "abc"))
        return seen[-1] not in seen[:-1]

    def judgement(name: str, version: int, digest: str = "abc", **more: str) -> Manifest:
        return an_object(CONFIG_MAP, name, version, labels={names.DIGEST: digest, **more})

    assert changes()
    assert seen == [0]
    world.put(judgement("a", 2))
    assert changes()
    world.put(judgement("a", 2))
    world.put(judgement("of-another-model", 3, "def"))
    world.put(an_object(POD, "a", 4, labels={names.DIGEST: "abc"}))
    assert not changes()
    world.put(judgement("b", 5, **{names.JUDGED_FOR: "chat"}))
    assert changes()
    world.put(judgement("b", 6))
    assert changes()
    world.remove(judgement("a", 7))
    assert changes()
    world.remove(judgement("b", 8))
    assert world.mark("team", names.DIGEST, "abc") == 0
    world.put(judgement("c", 9))
    assert changes(), "and no number comes back"


def test_judgements_are_found_by_the_endpoint_that_they_were_made_for():
    world = a_world(an_object(CONFIG_MAP, "a", 2, labels={names.JUDGED_FOR: "chat"}), an_object(CONFIG_MAP, "b", 3))
    assert [one["metadata"]["name"] for one in world.judged_for("team", "chat")] == ["a"]
    assert world.mark("team", names.JUDGED_FOR, "chat") != world.mark("team", names.JUDGED_FOR, "other") == 0
