"""What the watches tell is told to those that it is news for, whoever wrote it."""

from tests.unit.operator.cached import RUN_UID, an_object, of_run

from slipway_operator import names
from slipway_operator.cache.key import Key
from slipway_operator.cache.world import World
from slipway_operator.kube.kinds import CONFIG_MAP, JOB, MODEL_ENDPOINT, TRAINING_RUN
from slipway_operator.loop.work_queue import WorkQueue
from slipway_operator.watch.handlers import WatchHandlers

RUN = an_object(
    TRAINING_RUN, "demo", uid=RUN_UID, spec={"serving": {"endpoint": "chat"}}, status={"phase": "RollingOut"}
)
DIGEST = "sha256:" + "a" * 64


def an_endpoint(version=5):
    return an_object(MODEL_ENDPOINT, "chat", version, spec={"model": {"digest": DIGEST}})


def keys_after(written):
    """Returns the kinds of the keys on the queue once a watch has told of what a pass wrote and kept."""
    world, queue = World(), WorkQueue(lambda: 0.0)
    for known in (RUN, an_endpoint(), written):
        world.put(known)
    WatchHandlers(world, queue).told("MODIFIED", written)
    return {key.kind for key in drained(queue)}


def drained(queue) -> list[Key]:
    found = []
    while (key := queue._next()) is not None:
        found.append(key)
    return found


def test_the_runs_of_an_endpoint_are_told_of_the_status_that_its_pass_wrote():
    assert "TrainingRun" in keys_after(an_endpoint(6))


def test_an_endpoint_is_told_what_the_pass_of_a_run_made_of_it():
    assert "ModelEndpoint" in keys_after(an_endpoint(6))


def test_an_endpoint_is_told_of_a_verdict_that_the_pass_of_a_run_wrote():
    verdict = an_object(CONFIG_MAP, "verdict", 7, labels={names.DIGEST: "a" * 63})
    assert "ModelEndpoint" in keys_after(verdict)


def test_a_run_is_not_told_of_what_its_own_pass_wrote():
    assert keys_after(an_object(TRAINING_RUN, "demo", 8, uid=RUN_UID, spec=RUN["spec"])) == set()
    assert keys_after(an_object(JOB, "demo-learn-1", 8, labels=of_run(), spec={})) == set()


def test_what_is_older_than_what_is_known_is_no_news():
    world, queue = World(), WorkQueue(lambda: 0.0)
    world.put(an_endpoint(6))
    WatchHandlers(world, queue).told("MODIFIED", an_endpoint(5))
    assert drained(queue) == []
