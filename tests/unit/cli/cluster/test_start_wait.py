"""What a person is told who waits for a model that passed and that a cluster does not bring to answer, and when the
wait ends: not while it is merely slow."""

from datetime import UTC, datetime, timedelta

import pytest
from tests.unit.cli.cluster.objects import condition, endpoint_document, run_document
from tests.unit.cli.evidence import DIGEST
from typer.testing import CliRunner

from slipway.cluster.start_wait import start_wait
from slipway.main import app
from slipway_core.resources.conditions import timestamp
from slipway_core.resources.status import ArtifactStatus, EndpointPhase, EndpointStatus, Phase, RunStatus, VersionStatus
from slipway_core.resources.training_run import Serving

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
NOT_YET = "endpoint chat has the model as version 1, which does not answer yet; `slipway status endpoint/chat` says why"
WAITS = RunStatus(
    phase=Phase.ROLLING_OUT,
    artifact=ArtifactStatus(uri="pvc://a/b", digest=DIGEST),
    conditions=[
        condition("Live", "False", "NotAnswering", NOT_YET),
        condition("Progressing", "True", "RollingOut", NOT_YET),
    ],
)
ROLLS_OUT = condition("Live", "False", "RollingOut", "the server loads the model")
LIVE = RunStatus(phase=Phase.SERVING, conditions=[condition("Live", "True", "Serving", "it serves")])
LOG = "INFO 01-01 12:00:00 loading\nOSError: model.safetensors is damaged\n"
WHY = "its server ended with exit code 1: OSError: model.safetensors is damaged"


OTHER = "sha256:" + "b" * 64
"""A model that is not the run's."""


def version(number, state="Live", digest=DIGEST, message=None):
    since = timestamp(NOON)
    return VersionStatus(version=number, uri="pvc://a/b", digest=digest, state=state, since=since, message=message)


def pod(
    name="chat-v1-0",
    *,
    of=1,
    ended=0,
    code=1,
    reason="Error",
    message="",
    waiting=None,
    dead=False,
    ready=False,
    unready_for=0,
    **status,
):
    """A pod of a version, whose server has ended so often: it has just (dead), waits to be started again, or runs."""
    labels = {"slipway.dev/endpoint": "chat", "slipway.dev/role": "serve", "slipway.dev/version": str(of)}
    end = {"terminated": {"exitCode": code, "reason": reason, "message": message}} if ended else {}
    state = {"waiting": {"reason": waiting}} if waiting else {"running": {"startedAt": timestamp(NOON)}}
    last = end
    if dead:
        state, last = end, end if ended > 1 else {}
    # The kubelet says the number of the newest container: one that ended has that of the ends before it.
    number = ended - 1 if dead or waiting == "CrashLoopBackOff" else ended
    unready = {
        "type": "Ready",
        "status": str(ready),
        "lastTransitionTime": timestamp(NOON - timedelta(seconds=unready_for)),
    }
    server = {"name": "server", "restartCount": number, "state": state, "lastState": last}
    return {
        "metadata": {"name": name, "uid": f"uid-of-{name}", "labels": labels},
        "status": {
            "phase": "Running",
            "startTime": timestamp(NOON - timedelta(hours=1)),
            "conditions": [unready],
            "containerStatuses": [server],
            **status,
        },
    }


NEVER_READY = {"unready_for": 3600}


class World:
    """An endpoint and its pods in a cluster, somebody who waits, and their clock."""

    def __init__(self, cluster, within=None, **status):
        self.cluster, self.now = cluster, NOON
        cluster.logs(LOG)
        self.shows(**(status or {"live": version(1)}))
        template = {"rollout": {"startTimeout": "12m"}}
        serving = Serving.model_validate({"endpoint": "chat", "template": template}, by_alias=True, by_name=False)
        self.wait = start_wait(cluster.kubectl, serving, lambda: self.now, within)

    def shows(self, message="version 1: its server starts", **status):
        ready = condition("Ready", "False", "NotAnswering", message)
        shown = EndpointStatus(phase=EndpointPhase.DEGRADED, conditions=[ready], **status).to_document()
        document = endpoint_document("chat", status=shown, rollout={"startTimeout": "10m"})
        self.cluster.save(**{"modelendpoint/chat": document})

    def has(self, *pods):
        self.cluster.save(**{f"pod/{one['metadata']['name']}": one for one in pods})

    def later(self, seconds, status=WAITS):
        self.now += timedelta(seconds=seconds)
        return [event.message for event in self.wait.look(status)]


@pytest.fixture
def world(cluster):
    return World(cluster)


def gives_up_at_the_third_end(world):
    for ended in (1, 2, 3):
        assert world.wait.over is None
        world.has(pod(ended=ended, waiting="CrashLoopBackOff"))
        told = world.later(10)
        assert told == ([f"version 1 starts again, after pod chat-v1-0: {WHY}"] if ended == 1 else [])
    assert world.wait.over == f"the server of version 1 ended 3 times in a row, at last: pod chat-v1-0: {WHY}"


def test_a_live_version_whose_server_ends_three_times_in_a_row_is_not_waited_for(world):
    world.has(pod(ready=True))
    assert world.later(0) == []
    gives_up_at_the_third_end(world)


def test_of_a_server_that_never_answered_one_more_end_is_enough(world):
    world.has(pod(ended=7, waiting="CrashLoopBackOff", **NEVER_READY))
    world.later(0)
    world.later(100)
    assert world.wait.over is None, "what it ended of may be mended by now"
    world.has(pod(ended=8, waiting="CrashLoopBackOff", **NEVER_READY))
    world.later(10)
    assert world.wait.over is not None
    assert "ended 8 times in a row" in world.wait.over


STARTED_AGAIN = ({"dead": True}, {"waiting": "CrashLoopBackOff"}, {"waiting": "ContainerCreating"}, {})
"""A server from one of its ends on, until it runs again."""


@pytest.mark.parametrize("looks_first", range(len(STARTED_AGAIN)))
def test_a_server_that_is_started_again_has_not_ended_once_more(world, looks_first):
    for state in STARTED_AGAIN[looks_first:]:
        world.has(pod(ended=3, **state, **NEVER_READY))
        assert world.later(10) == []
        assert world.wait.over is None, state
    world.has(pod(ended=4, dead=True, **NEVER_READY))
    world.later(10)
    assert world.wait.over == f"the server of version 1 ended 4 times in a row, at last: pod chat-v1-0: {WHY}"


def test_each_end_is_told_and_counted_once_from_one_start_to_the_next(world):
    world.has(pod(ready=True))
    world.later(0)
    for ended in (1, 2):
        for state in STARTED_AGAIN:
            world.has(pod(ended=ended, **state))
            world.later(10)
            assert world.wait.over is None, (ended, state)
    world.has(pod(ended=3, waiting="CrashLoopBackOff"))
    world.later(10)
    assert world.wait.over is not None
    assert "ended 3 times in a row" in world.wait.over


def test_ends_that_a_node_forgot_while_it_was_away_do_not_come_again(world):
    world.has(pod(ended=3, waiting="CrashLoopBackOff", **NEVER_READY))
    world.later(0)
    for state in ({"ended": 2, "waiting": "ContainerCreating"}, {"ended": 3}):
        world.has(pod(**state, **NEVER_READY))
        assert world.later(10) == []
    assert world.wait.over is None


def test_of_a_fetch_that_is_done_no_end_is_told(cluster):
    world = World(cluster, timedelta(seconds=5))
    done = {"terminated": {"exitCode": 0, "reason": "Completed"}}
    fetch = {"name": "fetch", "restartCount": 1, "state": done, "lastState": {}}
    for server, told in (
        (pod(initContainerStatuses=[fetch]), "its server runs and is not ready yet"),
        (pod(ended=1, dead=True, initContainerStatuses=[fetch]), f"2 times, at last: {WHY}"),
    ):
        world.has(server)
        world.later(0)
        world.later(5)
        assert world.wait.over is not None
        assert f"; pod chat-v1-0: {told}" in world.wait.over


def test_ends_from_before_a_server_answered_last_do_not_count(world):
    world.has(pod(ended=30, waiting="CrashLoopBackOff"))
    world.later(0)
    world.has(pod(ended=31, waiting="CrashLoopBackOff"))
    world.later(10)
    assert world.wait.over is None, "of 30 ends the last alone is known to have come since"
    world.has(pod(ended=31, ready=True))
    world.later(10)
    world.has(pod(ended=33, waiting="CrashLoopBackOff"))
    world.later(10)
    assert world.wait.over is None


def test_a_version_whose_other_pod_still_loads_is_waited_for(world):
    world.has(pod(), pod("chat-v1-1", **NEVER_READY))
    world.later(0)
    for ended in (1, 2, 3, 4):
        world.has(pod(ended=ended, waiting="CrashLoopBackOff"))
        world.later(10)
    assert world.wait.over is None


def test_a_candidate_is_left_to_its_endpoint_and_its_ends_are_told(cluster):
    world = World(cluster, live=version(1), candidate=version(2, "Starting"))
    world.later(0)
    world.has(pod("chat-v2-0", of=2, ended=4, waiting="CrashLoopBackOff", **NEVER_READY))
    assert world.later(10) == [f"version 2 starts again, after pod chat-v2-0: {WHY}"]
    world.later(20000)
    assert world.wait.over is None


def test_a_model_that_answers_and_waits_for_other_settings_is_not_said_to_be_silent(cluster):
    world = World(cluster, timedelta(seconds=5))
    candidate = version(2, "Starting").model_copy(update={"message": "no node takes the pod chat-v2-0"})
    answering = condition("Ready", "True", "Answering", "version 1 answers")
    shown = EndpointStatus(
        phase=EndpointPhase.ROLLING_OUT, conditions=[answering], live=version(1), candidate=candidate
    )
    cluster.save(**{"modelendpoint/chat": endpoint_document("chat", status=shown.to_document())})
    live = condition("Live", "True", "Serving", "endpoint chat serves the model and takes up its new settings")
    status = WAITS.model_copy(update={"conditions": [live]})
    world.later(0, status)
    assert world.wait.told(status).conditions[0].message == f"{live.message}: {candidate.message}"
    world.later(5, status)
    assert world.wait.answers
    assert world.wait.over == f"version 2 did not answer within 5 s: {candidate.message}"


def test_the_ends_of_a_candidate_that_failed_are_none_of_the_live_version(cluster):
    world = World(cluster, live=version(1), candidate=version(2, "Starting"))
    world.has(pod(ended=9, waiting="CrashLoopBackOff", **NEVER_READY))
    world.later(0)
    for ended in (1, 2, 3):
        world.has(pod("chat-v2-0", of=2, ended=ended, waiting="CrashLoopBackOff", **NEVER_READY))
        world.later(10)
    world.shows(live=version(1))
    world.later(10)
    assert world.wait.over is None, "what its own pod ended of is of before"
    world.has(pod(ended=10, waiting="CrashLoopBackOff", **NEVER_READY))
    world.later(10)
    assert world.wait.over is not None
    assert "server of version 1 ended 10 times in a row, at last: pod chat-v1-0" in world.wait.over


def test_pods_that_cannot_be_read_at_first_have_not_ended_just_now(world, cluster):
    world.has(pod(ended=7, waiting="CrashLoopBackOff", **NEVER_READY))
    cluster.refuse("get pods", "Unable to connect to the server: i/o timeout")
    world.later(0)
    cluster.refuse("nothing", "")
    assert world.later(10) == []
    assert world.wait.over is None


@pytest.mark.parametrize("within", [None, timedelta(seconds=5)])
def test_what_takes_too_long_is_told_with_what_its_pods_wait_for(cluster, within):
    world = World(cluster, within)
    message = "0/1 nodes are available: 1 Insufficient nvidia.com/gpu."
    more = f"{message} preemption: 0/1 nodes are available: 1 No preemption victims found."
    unplaced = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": more}
    world.has(pod(phase="Pending", conditions=[unplaced], containerStatuses=[]))
    world.later(0)
    world.later(4 if within else 599)
    assert world.wait.over is None
    world.later(2)
    asked = "5 s" if within else "10 min 0 s"
    assert world.wait.over == (
        f"it did not answer within {asked}: version 1: its server starts; pod chat-v1-0: Unschedulable: {message}"
    )


@pytest.mark.parametrize(
    ("of_pod", "told"),
    [
        (pod(ended=2, waiting="CrashLoopBackOff"), f"CrashLoopBackOff, 2 times, at last: {WHY}"),
        (pod(ended=3, dead=True), f"3 times, at last: {WHY}"),
        (pod(ended=1, code=139), "its server was ended by signal 11: OSError: model.safetensors is damaged"),
        (pod(), "its server runs and is not ready yet"),
        (
            pod(ended=1, code=137, reason="OOMKilled"),
            "its server used more memory than its limit and was killed (OOMKilled)",
        ),
        (pod(waiting="ContainerCreating"), "its server has not started yet"),
        (pod(waiting="ImagePullBackOff"), "ImagePullBackOff: "),
    ],
)
def test_how_a_pod_is_that_does_not_answer(cluster, of_pod, told):
    world = World(cluster, timedelta(seconds=5))
    world.has(of_pod)
    world.later(0)
    world.later(5)
    assert world.wait.over is not None
    assert f"; pod chat-v1-0: {told}" in world.wait.over


@pytest.mark.parametrize(
    ("state", "code", "mark"), [({"live": version(1)}, 1, "✗"), ({"candidate": version(1, "Starting")}, 0, "·")]
)
def test_doctor_names_the_pod_and_its_last_words(cluster, state, code, mark):
    world = World(cluster, **state)
    status = WAITS if "live" in state else WAITS.model_copy(update={"conditions": [ROLLS_OUT]})
    cluster.save(**{"trainingrun/tang": run_document(status, serving={"endpoint": "chat"})})
    world.has(pod(ended=2, waiting="CrashLoopBackOff"))
    result = CliRunner().invoke(app, ["doctor", "tang", "-n", "team"])
    assert result.exit_code == code, result.output
    assert f"pod chat-v1-0: CrashLoopBackOff, 2 times, at last: {WHY}" in result.output
    assert f"{mark} endpoint: the model passed and does not answer" in result.output


def test_of_a_pod_of_which_the_endpoint_tells_all_nothing_is_told_again(cluster):
    world = World(cluster, timedelta(seconds=5))
    world.shows("version 1: no node takes the pod chat-v1-0", live=version(1))
    unplaced = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes"}
    world.has(pod(phase="Pending", conditions=[unplaced], containerStatuses=[]))
    world.later(0)
    world.later(5)
    assert world.wait.over == "it did not answer within 5 s: version 1: no node takes the pod chat-v1-0"


def test_last_words_that_the_endpoint_repeats_are_told_once(cluster):
    world = World(cluster, timedelta(seconds=5))
    world.shows(f"version 1: {WHY}.", live=version(1))
    world.has(pod(ended=4, waiting="CrashLoopBackOff"))
    world.later(0)
    world.later(5)
    how = "CrashLoopBackOff, 4 times, at last: its server ended with exit code 1"
    assert world.wait.over == f"it did not answer within 5 s: version 1: {WHY}; pod chat-v1-0: {how}"


def test_who_may_not_read_logs_is_told_the_end_that_the_pod_keeps(world, cluster):
    cluster.refuse("logs", "Error from server (Forbidden): no")
    world.has(pod(**NEVER_READY))
    world.later(0)
    world.has(pod(ended=1, message="ValueError: too small\n", **NEVER_READY))
    said = "pod chat-v1-0: its server ended with exit code 1: ValueError: too small"
    assert world.later(1) == [f"version 1 starts again, after {said}"]


def test_who_may_not_read_pods_is_told_what_the_endpoint_says(world, cluster):
    cluster.refuse("get pods", "Error from server (Forbidden): no")
    world.later(0)
    assert world.later(601) == []
    assert world.wait.over == "it did not answer within 10 min 0 s: version 1: its server starts"


def test_an_endpoint_that_cannot_be_reached_ends_no_wait_but_one_that_was_asked_for(cluster):
    world, asked = World(cluster), World(cluster, timedelta(seconds=5))
    cluster.refuse("get modelendpoints", "Unable to connect to the server: i/o timeout")
    for one in (world, asked):
        one.later(0)
        one.later(5000)
    assert world.wait.over is None
    assert asked.wait.over == f"it did not answer within 5 s: {NOT_YET}"


@pytest.mark.parametrize(
    "said",
    [
        'Error from server (Forbidden): modelendpoints.slipway.dev "chat" is forbidden: no',
        "error: You must be logged in to the server (Unauthorized)",
    ],
)
def test_who_may_not_read_the_endpoint_is_told_so_once_and_waits_no_longer_than_the_run_says(world, cluster, said):
    cluster.refuse("get modelendpoints", said)
    told = world.later(0)
    assert len(told) == 1
    assert told[0].startswith("endpoint chat may not be read, ")
    assert ("is forbidden: no; ask whoever runs the cluster" in told[0]) == ("Forbidden" in said)
    assert ("log in again" in told[0]) == ("Unauthorized" in said)
    assert world.later(719) == []
    assert world.wait.over is None
    world.later(2)
    assert world.wait.over == f"it did not answer within 12 min 0 s: {NOT_YET}"
    assert world.wait.serves, "nobody knows that nothing answers"
    assert not world.wait.answers


def test_of_an_endpoint_that_may_not_be_read_the_run_says_whether_its_model_answers(world, cluster):
    cluster.refuse("get modelendpoints", "Error from server (Forbidden): no")
    live = condition("Live", "True", "Serving", "endpoint chat serves the model and takes up its new settings")
    world.later(0, WAITS.model_copy(update={"conditions": [live]}))
    world.later(721, WAITS.model_copy(update={"conditions": [live]}))
    assert world.wait.answers
    assert world.wait.over == f"they were not taken up within 12 min 0 s: {live.message}"


def test_an_endpoint_that_is_not_seen_for_a_moment_keeps_its_time(world, cluster):
    world.later(0)
    cluster.refuse("get modelendpoints", "Unable to connect to the server: i/o timeout")
    world.later(300)
    cluster.refuse("nothing", "")
    world.later(301)
    assert world.wait.over is not None


HELD = condition("Live", "False", "RollingOut", "the verdict was signed with key ci, which was revoked")
HELD_BACK = WAITS.model_copy(update={"conditions": [HELD]})


def test_what_ends_of_another_model_is_not_told_of_this_one(cluster):
    """Its endpoint starts no version of it, and the one before it crash-loops."""
    world = World(cluster, live=version(1, digest=OTHER))
    world.has(pod(**NEVER_READY))
    world.later(0, HELD_BACK)
    for ended in (1, 2, 3, 4):
        world.has(pod(ended=ended, waiting="CrashLoopBackOff", **NEVER_READY))
        assert world.later(10, HELD_BACK) == []
    assert world.wait.over is None
    assert world.wait.told(HELD_BACK) == HELD_BACK
    world.later(560, HELD_BACK)
    assert world.wait.over == f"it did not answer within 10 min 0 s: {HELD.message}"


def test_doctor_tells_of_a_model_that_is_held_back_why_and_nothing_of_another(cluster):
    world = World(cluster, live=version(1, digest=OTHER))
    cluster.save(**{"trainingrun/tang": run_document(HELD_BACK, serving={"endpoint": "chat"})})
    world.has(pod(ended=4, waiting="CrashLoopBackOff"))
    result = CliRunner().invoke(app, ["doctor", "tang", "-n", "team"])
    assert HELD.message in result.output
    assert "chat-v1-0" not in result.output
    assert "its server starts" not in result.output


ELSEWHERE = version(2, "Starting", OTHER, "no node takes the pod chat-v2-0")


def test_a_candidate_of_another_model_hides_no_end_of_this_one(cluster):
    """Somebody rolls back while the live version does not answer."""
    world = World(cluster, live=version(1), candidate=ELSEWHERE)
    world.has(pod(ready=True))
    world.later(0)
    gives_up_at_the_third_end(world)


def test_a_wait_beside_a_candidate_of_another_model_has_its_end_and_the_reason_of_its_own(cluster):
    world = World(cluster, live=version(1), candidate=ELSEWHERE)
    world.has(pod(**NEVER_READY))
    world.later(0)
    world.later(599)
    assert world.wait.over is None
    told = world.wait.told(WAITS).conditions[0].message
    assert told == "endpoint chat does not answer yet: version 1: its server starts"
    world.later(2)
    assert world.wait.over == (
        "it did not answer within 10 min 0 s: version 1: its server starts; "
        "pod chat-v1-0: its server runs and is not ready yet"
    )


def test_what_a_candidate_of_another_model_waits_for_is_not_said_of_a_model_that_answers(cluster):
    world = World(cluster)
    answering = condition("Ready", "True", "Answering", "version 1 answers")
    shown = EndpointStatus(
        phase=EndpointPhase.ROLLING_OUT, conditions=[answering], live=version(1), candidate=ELSEWHERE
    )
    cluster.save(**{"modelendpoint/chat": endpoint_document("chat", status=shown.to_document())})
    live = condition("Live", "True", "Serving", "endpoint chat serves the model and takes up its new settings")
    status = WAITS.model_copy(update={"conditions": [live]})
    world.later(0, status)
    assert world.wait.told(status) == status


def test_where_no_version_starts_it_is_waited_for_as_long_as_for_one_that_does(cluster):
    # Locally a minute: an operator may be away for as long, or told to try again later.
    world = World(cluster)
    world.cluster.save(**{"modelendpoint/chat": endpoint_document("chat", rollout={"startTimeout": "10m"})})
    world.later(0)
    world.later(599)
    assert world.wait.over is None
    world.later(2)
    assert world.wait.over == f"it did not answer within 10 min 0 s: {NOT_YET}"


def test_an_endpoint_that_is_not_there_is_waited_for_as_long_as_the_run_would_have_it(cluster):
    world = World(cluster)
    cluster.save(**{"modelendpoint/chat": None})
    assert world.later(0) == []
    world.later(719)
    assert world.wait.over is None
    world.later(2)
    assert world.wait.over == f"it did not answer within 12 min 0 s: {NOT_YET}"


def test_a_model_that_answers_meanwhile_begins_anew(world):
    world.has(pod(**NEVER_READY))
    world.later(0)
    world.later(599)
    world.later(1, LIVE)
    world.later(1)
    world.later(598)
    assert world.wait.over is None
