import pytest
from tests.unit.operator.cached import RUN_UID, an_object, of_run

from slipway_operator import names
from slipway_operator.cache.key import Key
from slipway_operator.cache.world import World
from slipway_operator.kube.kinds import CONFIG_MAP, DEPLOYMENT, JOB, MODEL_ENDPOINT, POD, TRAINING_RUN
from slipway_operator.loop.work_queue import WorkQueue
from slipway_operator.watch.event_mapping import woken
from slipway_operator.watch.handlers import WatchHandlers

RUN = Key("TrainingRun", "team", "demo")
SPACE = Key("Namespace", "team", "team")


def a_world(*others) -> World:
    world = World()
    for manifest in (an_object(TRAINING_RUN, "demo", uid=RUN_UID), *others):
        world.put(manifest)
    return world


def wakes(before, after, *others) -> list[Key]:
    return list(woken(a_world(*others), before, after))


def a_pod(version: int = 1, **status):
    return an_object(POD, "p", version, labels=of_run(), spec={}, status=status)


def a_job(version: int = 1, suspend: bool = False, **status):
    return an_object(JOB, "j", version, labels=of_run(), spec={"suspend": suspend}, status=status)


def waiting(reason: str):
    return [{"name": "trainer", "state": {"waiting": {"reason": reason, "message": "why"}}}]


PENDING = a_pod(phase="Pending")
SCHEDULED = a_pod(phase="Pending", conditions=[{"type": "PodScheduled", "status": "True"}])
CREATING = a_pod(phase="Pending", hostIP="10.0.0.1", containerStatuses=waiting("ContainerCreating"))
RUNNING = a_pod(phase="Running", containerStatuses=[{"name": "trainer", "state": {"running": {}}}])
ENDED = a_pod(phase="Succeeded", containerStatuses=[{"name": "trainer", "state": {"terminated": {"exitCode": 0}}}])


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (None, PENDING),
        (PENDING, SCHEDULED),
        (SCHEDULED, CREATING),
        (None, CREATING),
        (RUNNING, {**RUNNING, "metadata": {**RUNNING["metadata"], "resourceVersion": "9", "finalizers": []}}),
        (a_job(), a_job(active=1, startTime="2026-01-01T00:00:00Z")),
        (a_job(active=1), a_job(ready=1, uncountedTerminatedPods={})),
    ],
)
def test_what_no_pass_reads_wakes_nobody(before, after):
    assert wakes(before, after) == []


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (CREATING, RUNNING),
        (RUNNING, ENDED),
        (None, ENDED),
        (ENDED, None),
        (CREATING, a_pod(phase="Pending", containerStatuses=waiting("ImagePullBackOff"))),
        (PENDING, a_pod(phase="Pending", conditions=[{"type": "PodScheduled", "status": "False", "reason": "x"}])),
        (RUNNING, a_pod(phase="Running", conditions=[{"type": "DisruptionTarget", "status": "True"}])),
        (a_job(), a_job(conditions=[{"type": "Complete", "status": "True"}])),
        (a_job(suspend=True), a_job()),
        (a_job(), None),
    ],
)
def test_what_a_pass_reads_wakes_the_run(before, after):
    assert wakes(before, after) == [RUN]


def test_a_deployment_wakes_its_endpoint():
    made = an_object(DEPLOYMENT, "chat-v1", labels=names.version_labels("chat", 1), status={"readyReplicas": 0})
    ready = {**made, "status": {"readyReplicas": 1}}
    assert wakes(made, ready, an_object(MODEL_ENDPOINT, "chat")) == [Key("ModelEndpoint", "team", "chat")]


def test_an_endpoint_wakes_the_runs_that_may_still_learn_from_it():
    def a_run(name: str, phase: str):
        return an_object(TRAINING_RUN, name, spec={"serving": {"endpoint": "chat"}}, status={"phase": phase})

    runs = [
        a_run("rolls", "RollingOut"),
        a_run("serves", "Serving"),
        a_run("is-over", "Completed"),
        a_run("trains", "Training"),
    ]
    found = wakes(None, an_object(MODEL_ENDPOINT, "chat"), *runs)
    assert found == [
        Key("ModelEndpoint", "team", "chat"),
        Key("TrainingRun", "team", "rolls"),
        Key("TrainingRun", "team", "serves"),
        SPACE,
    ]


def test_an_endpoint_wakes_the_run_that_it_was_told_of_last_whatever_its_phase():
    serving = {"serving": {"endpoint": "chat"}}
    runs = [an_object(TRAINING_RUN, name, spec=serving, status={"phase": "Failed"}) for name in ("last", "earlier")]
    found = wakes(None, an_object(MODEL_ENDPOINT, "chat", spec={"model": {"run": "last"}}), *runs)
    assert [key.name for key in found if key.kind == "TrainingRun"] == ["last"]


def test_what_ends_wakes_the_run_that_waits_longest_for_room():
    first, second = Key("TrainingRun", "team", "first"), Key("TrainingRun", "team", "second")
    world = a_world(ENDED)
    for key, created in ((second, "2026-01-02"), (first, "2026-01-01")):
        world.waiting.refused(key, "QuotaExceeded", created=created, generation=1)
    assert first in woken(world, RUNNING, ENDED)
    assert second not in list(woken(world, RUNNING, ENDED))
    assert first in woken(world, ENDED, None)
    assert first not in woken(world, CREATING, RUNNING)


def test_a_run_that_has_a_model_wakes_those_that_start_from_it():
    base = an_object(TRAINING_RUN, "base", status={"artifact": {"uri": "pvc://c/f/artifact"}})
    waits = an_object(TRAINING_RUN, "waits", spec={"model": {"from": "run://base"}})
    planned = an_object(TRAINING_RUN, "planned", spec=waits["spec"], status={"planDigest": "sha256:1"})
    found = wakes(an_object(TRAINING_RUN, "base"), base, waits, planned)
    assert [key.name for key in found] == ["base", "waits"]


def test_a_deleted_run_wakes_what_looks_after_what_it_left():
    run = an_object(TRAINING_RUN, "demo", uid=RUN_UID)
    assert wakes(run, None) == [RUN, SPACE]


def test_a_verdict_wakes_the_endpoints_that_wait_for_it():
    digest = "ab" * 32
    verdict = an_object(CONFIG_MAP, "v", labels={**of_run(), names.DIGEST: digest[:63]})
    waits = an_object(MODEL_ENDPOINT, "waits", spec={"model": {"digest": f"sha256:{digest}"}})
    other = an_object(MODEL_ENDPOINT, "other", spec={"model": {"digest": "sha256:" + "cd" * 32}})
    assert wakes(None, verdict, waits, other) == [RUN, Key("ModelEndpoint", "team", "waits")]


# ------------------------------------------------------------------------------------------- the handlers


def test_a_judgement_that_somebody_removed_wakes_the_run_that_signs_it_again():
    digest = "a" * 64
    judgement = an_object(CONFIG_MAP, "v", labels={names.MANAGED_BY: "slipway", names.DIGEST: digest[:63]})
    made = {"artifact": {"uri": "pvc://w/x", "digest": f"sha256:{digest}"}}
    run, other = an_object(TRAINING_RUN, "made-it", status=made), an_object(TRAINING_RUN, "other")
    assert Key("TrainingRun", "team", "made-it") in (woken := wakes(judgement, None, run, other))
    assert Key("TrainingRun", "team", "other") not in woken
    assert Key("TrainingRun", "team", "made-it") not in wakes(None, judgement, run, other), "it wrote that itself"


def handlers_of_watches() -> WatchHandlers:
    return WatchHandlers(a_world(), WorkQueue(lambda: 0.0))


def test_an_event_of_what_a_pass_wrote_itself_is_no_news():
    handlers = handlers_of_watches()
    handlers.world.put(a_job(7, suspend=True))
    handlers.told("ADDED", a_job(7, suspend=True))
    assert len(handlers.queue) == 0


def test_an_event_changes_the_world_and_queues_the_owner():
    handlers = handlers_of_watches()
    handlers.told("ADDED", {**ENDED})
    assert handlers.world.get(POD, "team", "p") is not None
    assert len(handlers.queue) == 1
    handlers.told("DELETED", a_pod(2))
    assert handlers.world.get(POD, "team", "p") is None
    assert len(handlers.queue) == 1, "the run is in the line already"


def test_the_deletion_of_what_was_never_seen_wakes_its_owner():
    handlers = handlers_of_watches()
    handlers.told("DELETED", a_pod(2))
    assert len(handlers.queue) == 1


def test_an_endpoint_is_looked_at_when_a_run_says_that_its_model_passed():
    told = an_object(MODEL_ENDPOINT, "chat", spec={"model": {"digest": "sha256:a"}})
    other = an_object(MODEL_ENDPOINT, "other", spec={"model": {"digest": "sha256:b"}})
    judged = {"phase": "Completed", "evaluation": {"verdict": "Pass", "artifactDigest": "sha256:a"}}
    before = an_object(TRAINING_RUN, "judges", uid="u", status={"phase": "Evaluating"})
    after = an_object(TRAINING_RUN, "judges", 2, uid="u", status=judged)
    assert Key("ModelEndpoint", "team", "chat") in wakes(before, after, told, other)
    assert Key("ModelEndpoint", "team", "other") not in wakes(before, after, told, other)
    later = an_object(TRAINING_RUN, "judges", 3, uid="u", status={**judged, "phase": "Serving"})
    assert Key("ModelEndpoint", "team", "chat") not in wakes(after, later, told)


@pytest.mark.parametrize("after", [None, ENDED], ids=["gone", "ended"])
def test_the_end_of_a_pod_of_an_earlier_run_wakes_the_run_that_waits_for_its_folder(after):
    """It has no plan yet."""
    world = World()
    world.put(an_object(TRAINING_RUN, "demo", uid="another"))
    assert RUN in woken(world, RUNNING, after)
    world.put(an_object(TRAINING_RUN, "demo", 2, uid="another", status={"planDigest": "sha256:1"}))
    assert RUN not in woken(world, RUNNING, after)


@pytest.mark.parametrize("ended", [True, False])
def test_the_end_of_a_removal_wakes_those_that_wait_longest_for_theirs(ended: bool):
    world = a_world()
    keys = [Key("Namespace", "other", f"uid-{number}") for number in range(6)]
    for key in keys:
        world.removals.join(key)
    status = {"conditions": [{"type": "Complete", "status": "True"}]} if ended else {}
    labels = {**of_run(), names.ROLE: names.CLEANUP}
    before = an_object(JOB, "j", 1, labels=labels, spec={}, status={})
    after = an_object(JOB, "j", 2, labels=labels, spec={}, status={**status, "startTime": "x"})
    assert [key for key in woken(world, before, after) if key in keys] == (keys[:4] if ended else [])
