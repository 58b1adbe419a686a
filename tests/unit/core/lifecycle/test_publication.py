"""What is told to trackers and pushed after a verdict, beside the run and never in its way."""

import json
from dataclasses import replace

import pytest
from tests.unit.core.runs import DIGEST, OTHER_DIGEST, a_plan, a_run
from tests.unit.core.world import World, events_of

from slipway_core.lifecycle.publication import is_under_way
from slipway_core.protocol.exit_codes import ExitClass
from slipway_core.protocol.judged import Judged
from slipway_core.resources.status import EvaluationStatus, MetricStatus, Phase, StepState, Verdict
from slipway_core.resources.tracking import Tracking

TRACKED = {"tracking": {"tensorboard": {}, "mlflow": {"uri": "http://host", "experiment": "e"}}}
PUSHED = {"export": {"push": {"uri": "hf://org/name", "credentials": "hub"}}}
STEPS = ("prepare", "learn", "export")


def judged(passes: bool = True, **spec) -> World:
    """A world whose run has just been judged."""
    world = World(a_run(**spec))
    world.through(*STEPS)
    world.succeed("evaluate", metrics={"perplexity": 10.0 if passes else 30.0})
    world.settle()
    return world


def told(world: World, step: str = "publish"):
    return next(c for d in reversed(world.decisions) for c in d.create if c.step == step)


@pytest.mark.parametrize(
    ("spec", "steps"),
    [
        ({}, ["prepare", "learn", "export", "evaluate"]),
        (TRACKED, ["prepare", "learn", "export", "evaluate", "publish"]),
        (PUSHED, ["prepare", "learn", "export", "evaluate", "publish"]),
    ],
)
def test_the_step_is_there_where_something_is_to_be_told(spec, steps):
    assert a_plan(a_run(**spec)).steps == steps


def test_nothing_is_published_where_nobody_asks():
    world = judged(serving=False)
    assert world.phase is Phase.COMPLETED
    assert "publish" not in world.attempts
    assert world.condition("Published") is None
    assert not is_under_way(world.run.status)


def test_a_model_that_passed_goes_live_while_it_is_published():
    world = judged(**TRACKED, **PUSHED)
    assert world.promotions == 1
    assert world.phase is Phase.ROLLING_OUT
    world.goes_live()
    world.settle()
    assert world.phase is Phase.SERVING
    assert is_under_way(world.run.status)
    assert world.condition("Published").status == "False"
    world.succeed("publish")
    world.settle()
    published = world.condition("Published")
    assert (published.status, published.reason) == ("True", "Published")
    assert published.message == "the verdict Pass is in mlflow, tensorboard; the model is in hf://org/name"
    assert world.phase is Phase.SERVING
    assert not is_under_way(world.run.status)


def test_the_process_is_told_the_verdict_of_the_record_and_where_to_tell_it():
    world = judged(serving=False, **TRACKED)
    inputs = told(world).inputs
    variables = inputs.variables()
    assert variables.keys() == {"SLIPWAY_ARTIFACT_DIGEST", "SLIPWAY_TRACKING", "SLIPWAY_JUDGED"}
    assert variables["SLIPWAY_ARTIFACT_DIGEST"] == DIGEST
    assert json.loads(variables["SLIPWAY_TRACKING"]) == TRACKED["tracking"]
    verdict = Judged.parse(variables["SLIPWAY_JUDGED"])
    assert (verdict.number, verdict.verdict, verdict.artifact_digest) == (1, Verdict.PASS, DIGEST)
    assert [(one.name, one.value, one.threshold) for one in verdict.metrics] == [("perplexity", 10.0, "<= 20")]


def test_a_stage_is_told_where_it_is_tracked_and_no_other_step_is():
    world = judged(serving=False, **TRACKED)
    given = {step: told(world, step).inputs.tracking for step in (*STEPS, "evaluate", "publish")}
    assert {step for step, tracking in given.items() if tracking} == {"learn", "publish"}


def test_a_verdict_that_is_no_pass_is_told_and_nothing_is_pushed():
    world = judged(passes=False, serving=False, **TRACKED, **PUSHED)
    assert world.phase is Phase.REJECTED
    assert Judged.parse(told(world).inputs.judged).verdict is Verdict.FAIL
    world.succeed("publish")
    world.settle()
    said = "the verdict Fail is in mlflow, tensorboard; nothing is pushed, for the verdict is Fail"
    assert world.condition("Published").message == said


def test_A_nothing_is_pushed_that_did_not_pass():
    world = judged(passes=False, serving=False, **PUSHED)
    assert "publish" not in world.attempts
    found = world.condition("Published")
    assert (found.status, found.reason) == ("False", "NotPassed")
    assert not is_under_way(world.run.status)


def test_a_tracker_that_stays_away_costs_a_condition_and_neither_verdict_nor_phase():
    world = judged(serving=False, retries=1, **TRACKED)
    assert world.phase is Phase.COMPLETED
    world.fail("publish", kind="TrackerAway")
    world.settle()
    waiting = world.condition("Published")
    assert (waiting.reason, waiting.message) == ("BackingOff", "it is tried again: TrackerAway: it broke")
    assert world.decisions[-1].look_again
    assert is_under_way(world.run.status)
    world.wait(11)
    world.settle()
    assert len(world.attempts["publish"]) == 2
    world.fail("publish", kind="TrackerAway")
    decision = world.reconcile()
    assert "StepFailed" in events_of(decision)
    world.settle()
    failed = world.condition("Published")
    assert (failed.status, failed.reason) == ("False", "PublishFailed")
    assert "slipway.dev/retry" in failed.message
    assert world.phase is Phase.COMPLETED
    assert world.run.status.evaluation.verdict is Verdict.PASS
    assert world.condition("Progressing").reason == "Completed"
    assert not is_under_way(world.run.status)


def test_a_push_without_rights_is_not_tried_again_by_itself_and_is_when_somebody_asks():
    world = judged(serving=False, **PUSHED)
    world.fail("publish", kind="BadConfig", exit_class=ExitClass.BAD_INPUT)
    world.settle()
    world.wait(3600)
    world.settle()
    assert len(world.attempts["publish"]) == 1
    assert world.condition("Published").reason == "PublishFailed"
    annotated = world.run.metadata.model_copy(update={"annotations": {"slipway.dev/retry": "again"}})
    world.run = world.run.model_copy(update={"metadata": annotated})
    world.settle()
    assert len(world.attempts["publish"]) == 2


def test_a_new_judgement_is_told_again():
    world = World(a_run(serving=False, **TRACKED))
    world.through(*STEPS)
    world.fail("evaluate", exit_class=ExitClass.BAD_INPUT)
    world.settle()
    assert world.phase is Phase.HELD
    world.succeed("publish")
    world.settle()
    assert world.condition("Published").status == "True"
    annotated = world.run.metadata.model_copy(update={"annotations": {"slipway.dev/reevaluate": "again"}})
    world.run = world.run.model_copy(update={"metadata": annotated})
    world.settle()
    world.succeed("evaluate")
    world.settle()
    assert [a.number for a in world.attempts["publish"]] == [1, 2]
    assert Judged.parse(told(world).inputs.judged).verdict is Verdict.PASS


def test_a_tracker_that_is_named_after_the_end_is_told_too():
    world = judged(serving=False)
    world.plan = world.plan.model_copy(update={"tracking": Tracking.model_validate(TRACKED["tracking"])})
    world.settle()
    assert len(world.attempts["publish"]) == 1
    assert world.phase is Phase.COMPLETED
    world.plan = world.plan.model_copy(update={"tracking": None})
    world.settle()
    assert world.condition("Published") is None


def test_what_is_suspended_publishes_nothing_and_goes_on_later():
    world = judged(serving=False, **TRACKED)

    def suspend(wanted: bool):
        world.run = world.run.model_copy(update={"spec": world.run.spec.model_copy(update={"suspend": wanted})})
        world.settle()

    suspend(True)
    assert world.attempts["publish"][0].exit_class is ExitClass.INTERRUPTED
    assert (world.phase, world.condition("Published").reason) == (Phase.COMPLETED, "Suspended")
    suspend(False)
    assert len(world.attempts["publish"]) == 2
    assert world.record("publish").failures == 0


def test_going_on_before_a_suspended_publish_has_ended_is_no_interruption():
    world = judged(serving=False, **TRACKED)
    spec = world.run.spec
    world.run = world.run.model_copy(update={"spec": spec.model_copy(update={"suspend": True})})
    world._save(world.decide())  # It has its grace period.
    world.run = world.run.model_copy(update={"spec": spec})
    world.end("publish", ExitClass.INTERRUPTED)
    world.settle()
    assert (world.record("publish").attempt, world.record("publish").stalls) == (2, 0)


def test_F_a_pass_that_changes_nothing_writes_nothing():
    world = judged(serving=False, **TRACKED)
    for _ in range(3):
        before = world.run.status
        world.wait(1)
        world.reconcile()
        assert world.run.status == before
    world.fail("publish")
    world.settle()
    before = world.run.status
    world.wait(1)
    world.reconcile()
    assert world.run.status == before


@pytest.mark.parametrize("dies_before", range(3))
def test_F_an_executor_that_dies_publishes_once(dies_before):
    world = World(a_run(serving=False, **TRACKED))
    world.through(*STEPS)
    world.succeed("evaluate")
    world.reconcile(dies_before=dies_before)
    world.settle()
    assert [a.number for a in world.attempts["publish"]] == [1]
    assert world.record("publish").state is StepState.RUNNING


def test_a_verdict_of_many_gates_fits_into_a_variable():
    metric = MetricStatus(name="perplexity", value=1.0, threshold="<= 20", verdict=Verdict.PASS, reason="r" * 4096)
    evaluation = EvaluationStatus(
        number=1, verdict=Verdict.PASS, metrics=[metric] * 64, reason="r" * 4096, artifact_digest=OTHER_DIGEST
    )
    assert len(Judged.of(evaluation).to_json()) < 16384


def test_a_retry_of_a_publish_leaves_the_live_model_alone():
    world = judged(**PUSHED)
    world.goes_live()
    world.fail("publish", kind="PublishRefused", exit_class=ExitClass.BAD_INPUT)
    world.settle()
    assert world.phase is Phase.SERVING
    annotated = world.run.metadata.model_copy(update={"annotations": {"slipway.dev/retry": "again"}})
    world.run = world.run.model_copy(update={"metadata": annotated})
    world.reconcile()
    assert len(world.attempts["publish"]) == 2
    world.endpoint = replace(world.endpoint, current=True)
    world.settle()
    assert world.phase is Phase.SERVING
    assert len(world.attempts["evaluate"]) == 1
