import asyncio

from aiohttp.test_utils import TestClient, TestServer
from tests.unit.operator.cached import an_object

from slipway_operator.cache.key import Key
from slipway_operator.cache.world import World
from slipway_operator.common.signing_key import KEY_LOST, KEY_UNUSABLE
from slipway_operator.health import Health, application
from slipway_operator.kube import kinds
from slipway_operator.kube.kinds import MODEL_ENDPOINT, TRAINING_RUN
from slipway_operator.loop.metrics import UNSIGNABLE, Gauges, Metrics
from slipway_operator.loop.work_queue import WorkQueue
from slipway_operator.watch.ages import WatchAges

KINDS = (*kinds.OWN, *kinds.CHILDREN)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def all_ask(watches: WatchAges, *, but: str = "") -> None:
    for kind in KINDS:
        if kind.plural != but:
            watches.asked(kind.path())


def test_a_watch_that_asks_no_more_is_dead_and_the_others_are_not():
    clock = Clock()
    watches = WatchAges(KINDS, clock)
    all_ask(watches)
    for clock.now in (60.0, 120.0, 180.0, 240.0):
        all_ask(watches, but="pods")
    assert watches.dead() == ["Pod"]
    assert watches.ages()["Pod"] == 240.0
    assert watches.ages()["Job"] == 0.0


def test_of_several_namespaces_the_most_silent_one_counts():
    clock = Clock()
    watches = WatchAges(KINDS, clock)
    watches.asked("/api/v1/namespaces/a/pods")
    watches.asked("/api/v1/namespaces/b/pods")
    clock.now = 240.0
    watches.asked("/api/v1/namespaces/a/pods")
    assert "Pod" in watches.dead()


def test_watches_that_never_started_are_dead_after_a_while_and_not_ready_before():
    clock = Clock()
    watches = WatchAges(KINDS, clock)
    health = Health(WorkQueue(clock), watches)
    assert health.ails() == []
    assert health.lacks() == ["the watches have not started"]
    all_ask(watches)
    assert health.lacks() == []
    clock.now = 300.0
    assert len(health.ails()) == len(KINDS)


def test_a_queue_that_nobody_takes_from_is_ill():
    clock = Clock()
    watches, queue = WatchAges(KINDS, clock), WorkQueue(clock)
    with queue.served():
        queue.add(Key("TrainingRun", "team", "demo"))
        clock.now = 190.0
        all_ask(watches)
        assert Health(queue, watches).ails() == ["1 objects wait for a pass, and none began for 190 s"]


ENDPOINTS = (
    ("revoked", 0, ("KeyRevoked", "True", "VerdictNotTrusted"), ("Judged", "False", "KeyRevoked")),
    ("waits", 3, ("AwaitingApproval", "True", "NotApproved")),
    ("old", 0, ("Judged", "True", "Unsigned"), ("AwaitingApproval", "True", "NotApproved")),
    ("worn", 23, ("HeldOutWorn", "True", "JudgedOften"), ("KeyRevoked", "False", "Trusted")),
)
"""Name, judgements upon its held-out data, conditions."""


def test_what_cannot_be_signed_is_counted_by_the_reasons_that_there_are():
    assert UNSIGNABLE == (KEY_LOST, KEY_UNUSABLE)


def test_the_endpoints_answer_what_the_process_knows():
    async def scenario():
        clock = Clock()
        world, queue, watches, metrics = World(), WorkQueue(clock), WatchAges(KINDS, clock), Metrics()
        metrics.include(Gauges(world, queue, watches, lambda: True))
        warns = {"type": "StepWarning", "status": "True", "reason": "Warned"}
        world.put(an_object(TRAINING_RUN, "a", status={"phase": "Training", "conditions": [warns]}))
        world.put(an_object(TRAINING_RUN, "b"))
        world.put(an_object(MODEL_ENDPOINT, "chat", status={"phase": "Serving"}))
        refused = {"type": "Refused", "status": "True", "reason": "SigningKeyLost"}
        world.put(an_object(TRAINING_RUN, "c", status={"phase": "Pending", "conditions": [refused]}))
        for name, judgements, *told in ENDPOINTS:
            conditions = [{"type": type_, "status": status, "reason": reason} for type_, status, reason in told]
            status = {"phase": "Serving", "heldOut": {"judgements": judgements}, "conditions": conditions}
            world.put(an_object(MODEL_ENDPOINT, name, status=status))
        metrics.stage_finished("train", 42.0)
        metrics.verdict("Pass")
        metrics.gate_to_live(30.0)
        metrics.requested("create", "Job", "201")
        metrics.reconciled("TrainingRun", 0.003)
        metrics.reconcile_failed("TrainingRun")
        async with TestClient(TestServer(application(Health(queue, watches), metrics))) as client:
            assert (await client.get("/healthz")).status == 200
            assert (await client.get("/readyz")).status == 503
            clock.now = 300.0
            ill = await client.get("/healthz")
            assert (ill.status, "the watch of Pod has ended or hangs" in await ill.text()) == (503, True)
            text = await (await client.get("/metrics")).text()
        for line in (
            'slipway_operator_runs{phase="Training"} 1.0',
            'slipway_operator_runs{phase="Pending"} 2.0',
            'slipway_operator_runs{phase="Failed"} 0.0',
            'slipway_operator_endpoints{phase="Serving"} 5.0',
            'slipway_operator_endpoint_conditions{condition="KeyRevoked"} 1.0',
            'slipway_operator_endpoint_conditions{condition="ParityFailed"} 0.0',
            'slipway_operator_endpoint_conditions{condition="AwaitingApproval"} 2.0',
            'slipway_operator_endpoint_conditions{condition="HeldOutWorn"} 1.0',
            'slipway_operator_endpoint_conditions{condition="ManyJudgements"} 0.0',
            'slipway_operator_endpoint_conditions{condition="Unsigned"} 1.0',
            "slipway_operator_held_out_judgements 23.0",
            "slipway_operator_runs_unsigned 1.0",
            'slipway_operator_stage_seconds_bucket{le="60.0",step="train"} 1.0',
            'slipway_operator_verdicts_total{verdict="Pass"} 1.0',
            "slipway_operator_gate_to_live_seconds_sum 30.0",
            'slipway_operator_api_requests_total{code="201",kind="Job",verb="create"} 1.0',
            'slipway_operator_reconcile_seconds_count{kind="TrainingRun"} 1.0',
            'slipway_operator_reconcile_errors_total{kind="TrainingRun"} 1.0',
            "slipway_operator_queue_depth 0.0",
            "slipway_operator_orphaned_folders 0.0",
            "slipway_operator_runs_with_warnings 1.0",
            "slipway_operator_leader 1.0",
            'slipway_operator_watch_age_seconds{kind="Job"} 300.0',
        ):
            assert line in text.splitlines()

    asyncio.run(scenario())


def test_the_first_error_and_the_first_step_are_a_rise_from_nothing():
    text = Metrics().text().decode().splitlines()
    for line in (
        'slipway_operator_verdicts_total{verdict="Inconclusive"} 0.0',
        'slipway_operator_stage_seconds_count{step="evaluate"} 0.0',
        'slipway_operator_reconcile_errors_total{kind="ModelEndpoint"} 0.0',
    ):
        assert line in text
