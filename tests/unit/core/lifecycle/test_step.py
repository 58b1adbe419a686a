from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tests.unit.core.runs import DIGEST, OTHER_DIGEST, a_run
from tests.unit.core.world import World, events_of

from slipway_core import plan as plans
from slipway_core.lifecycle import step as lifecycle
from slipway_core.lifecycle.annotations import REEVALUATE_ANNOTATION, RETRY_ANNOTATION
from slipway_core.lifecycle.decision import Decision
from slipway_core.lifecycle.endpoint_claim import Claim
from slipway_core.lifecycle.observed import EndpointView, HalfPlaced
from slipway_core.protocol import step_result
from slipway_core.protocol.commands import Baseline
from slipway_core.protocol.exit_codes import ExitClass
from slipway_core.protocol.step_result import EvaluationResult, StepError, StepResult
from slipway_core.resources import conditions
from slipway_core.resources.conditions import Blocker
from slipway_core.resources.gate_metrics import TEXT_METRICS
from slipway_core.resources.status import EndpointPhase, Phase, Progress, StepState, Verdict, bounded_warnings

ALL = ("prepare", "learn", "export", "evaluate")


def annotate(world: World, **notes: str) -> None:
    metadata = world.run.metadata.model_copy(update={"annotations": {**world.run.metadata.annotations, **notes}})
    world.run = world.run.model_copy(update={"metadata": metadata})


def suspend(world: World, value: bool) -> None:
    world.run = world.run.model_copy(update={"spec": world.run.spec.model_copy(update={"suspend": value})})


def a_live_other_version(world: World) -> None:
    world.goes_live(OTHER_DIGEST, credentials="store")
    world.endpoint = replace(world.endpoint, claim=Claim("older", OTHER_DIGEST, "2025-01-01T00:00:00Z", "u"))


# ------------------------------------------------------------------------------------- the way to the endpoint


def test_a_model_of_ones_own_goes_through_the_gate_without_a_training_step():
    world = World(a_run(model={"from": "file:///a-model"}, stages=[]))
    phases = []
    for step in ("prepare", "export", "evaluate"):
        world.settle()
        assert [s for s, _ in world.running()] == [step]
        phases.append(world.phase)
        world.succeed(step)
    world.settle()
    assert phases == [Phase.PREPARING, Phase.EXPORTING, Phase.EVALUATING]
    assert world.phase is Phase.ROLLING_OUT
    world.goes_live()
    world.settle()
    assert world.phase is Phase.SERVING
    assert [step.name for step in world.run.status.stages] == ["prepare", "export", "evaluate"]


def test_A_a_comparison_with_the_base_needs_no_live_version_and_gives_way_to_none():
    gates = [
        {"metric": "perplexity", "max": 20, "minTokens": 100},
        {"metric": "perplexity", "maxRegression": 0.5, "against": "Base"},
    ]
    for base, phase in ((9.0, Phase.REJECTED), (9.6, Phase.ROLLING_OUT)):
        world = World(a_run(model={"from": "file:///a-model"}, gates=gates))
        a_live_other_version(world)
        for step in ("prepare", "learn", "export"):
            world.settle()
            world.succeed(step)
        world.settle()
        started = next(d.create for d in reversed(world.decisions) if d.create)
        assert started[0].baseline is None, "no gate compares with what is live"
        evaluation = EvaluationResult(
            number=1, artifact_digest=DIGEST, scored_tokens=1000, base_digest=OTHER_DIGEST,
            base_metrics={"perplexity": base},
        )  # fmt: skip
        world.succeed("evaluate", evaluation=evaluation)
        world.settle()
        assert world.phase is phase
        assert world.run.status.evaluation.base_digest == OTHER_DIGEST


def test_a_run_goes_through_its_steps_in_order_and_serves():
    world = World(a_run())
    phases = []
    for step in ALL:
        world.settle()
        assert [s for s, _ in world.running()] == [step]
        world.reach(step, 1)
        world.settle()
        phases.append(world.phase)
        world.succeed(step)
    world.settle()
    assert phases == [Phase.PREPARING, Phase.TRAINING, Phase.EXPORTING, Phase.EVALUATING]
    assert world.phase is Phase.ROLLING_OUT
    world.goes_live()
    world.settle()
    assert world.phase is Phase.SERVING
    assert world.condition("Live").status == "True"
    assert world.run.status.artifact.digest == DIGEST
    assert world.promotions == 1


@pytest.mark.parametrize(
    ("gates", "message"),
    [(None, "the model passed; the run has no serving"), ([], "no gate applied to the model; the run has no serving")],
)
def test_a_run_without_serving_completes_and_promotes_nothing(gates, message):
    world = World(a_run(serving=False, gates=gates))
    world.through(*ALL)
    assert world.phase is Phase.COMPLETED
    assert world.condition("Progressing").message == message
    assert world.promotions == 0


def test_the_record_outlives_the_attempts():
    world = World(a_run())
    world.through(*ALL)
    world.attempts.clear()
    world.settle()
    assert world.phase is Phase.ROLLING_OUT
    assert world.running() == []


# --------------------------------------------------------------------------------------------------- A: the gate


def test_A_a_failed_gate_rejects_and_nothing_is_promoted():
    world = World(a_run())
    world.through("prepare", "learn", "export")
    world.succeed("evaluate", metrics={"perplexity": 20.5})
    world.settle()
    assert world.phase is Phase.REJECTED
    assert world.promotions == 0
    assert "20.5" in world.condition("Passed").message
    (told,) = [event for one in world.decisions for event in one.events if event.reason == "Judged"]
    assert (told.type, "Fail: perplexity is 20.5" in told.message) == ("Warning", True)


@pytest.mark.parametrize(
    "result",
    [
        {"metrics": {}, "missing": {"perplexity": "is nan"}},
        {"evaluation": None},
        {"evaluation": EvaluationResult(number=1, artifact_digest=DIGEST, scored_tokens=99)},
        {"evaluation": EvaluationResult(number=1, artifact_digest=OTHER_DIGEST, scored_tokens=1000)},
    ],
    ids=["nan", "no evaluation", "too few tokens", "another artifact"],
)
@pytest.mark.parametrize(("policy", "phase"), [("Hold", Phase.HELD), ("Reject", Phase.REJECTED)])
def test_A_what_cannot_be_judged_is_held_or_rejected(result, policy, phase):
    world = World(a_run(evaluation={"onInconclusive": policy}))
    world.through("prepare", "learn", "export")
    world.succeed("evaluate", **result)
    world.settle()
    assert world.phase is phase
    assert world.run.status.evaluation.verdict is Verdict.INCONCLUSIVE
    assert world.promotions == 0
    passed, progressing = world.condition("Passed"), world.condition("Progressing")
    assert (passed.status, passed.reason) == ("Unknown", "Inconclusive")
    assert (progressing.status, progressing.reason) == ("False", phase.value)
    assert progressing.message.startswith(f"could not be judged: {passed.message}")


def test_A_a_crashed_evaluation_is_inconclusive_after_its_retries():
    world = World(a_run(retries=1))
    world.through("prepare", "learn", "export")
    for _ in range(2):
        world.fail("evaluate")
        world.settle()
        world.wait(1000)
        world.settle()
    assert world.phase is Phase.HELD
    assert "it broke" in world.run.status.evaluation.reason
    assert world.run.status.evaluation.says_nothing, "a crash is no word on the model"
    assert world.promotions == 0


def test_A_what_was_said_of_a_model_stays_said_when_its_next_evaluation_crashes():
    """The record has room for one, and whoever removes a statement is found out by it."""
    world = World(a_run(retries=0))
    world.through("prepare", "learn", "export")
    world.succeed("evaluate", evaluation=EvaluationResult(number=1, artifact_digest=DIGEST, scored_tokens=99))
    world.settle()
    assert (world.phase, world.run.status.evaluation.says_nothing) == (Phase.HELD, None)
    annotate(world, **{REEVALUATE_ANNOTATION: "1"})
    world.settle()
    world.fail("evaluate")
    world.settle()
    assert (world.run.status.evaluation.number, world.run.status.evaluation.says_nothing) == (2, None)
    again = World(a_run(retries=0))
    again.through("prepare", "learn", "export")
    for number in ("1", "2"):
        again.fail("evaluate")
        again.settle()
        assert again.run.status.evaluation.says_nothing, "two crashes say no more than one"
        annotate(again, **{REEVALUATE_ANNOTATION: number})
        again.settle()


def judged_again(world: World) -> list[str]:
    return [event.message for one in world.decisions for event in one.events if event.reason == "Reevaluating"]


def test_a_held_run_is_judged_again_when_asked_and_only_once():
    world = World(a_run())
    world.through("prepare", "learn", "export")
    world.succeed("evaluate", evaluation=None)
    world.settle()
    annotate(world, **{REEVALUATE_ANNOTATION: "1"})
    world.settle()
    assert world.phase is Phase.EVALUATING
    assert [a.number for a in world.attempts["evaluate"]] == [1, 2]
    world.succeed("evaluate", evaluation=None)
    world.settle()
    assert world.phase is Phase.HELD
    annotate(world, **{REEVALUATE_ANNOTATION: "2"})
    world.settle()
    world.succeed("evaluate")
    world.settle()
    assert world.phase is Phase.ROLLING_OUT
    assert world.run.status.evaluation.number == 3
    assert judged_again(world) == ["the model is judged again: asked for"] * 2


RELATIVE = [{"metric": "perplexity", "max": 20}, {"metric": "perplexity", "maxRegression": 1}]


def test_a_model_is_judged_once_for_each_verdict_and_a_crash_is_none():
    """How often it was is what held-out data wears out by."""
    world = World(a_run())
    world.through(*ALL)
    assert world.run.status.evaluation.judgements == 1
    held = World(a_run())
    held.through("prepare", "learn", "export")
    held.succeed("evaluate", evaluation=None)
    assert "Judged" in events_of(held.reconcile())
    assert (held.phase, held.run.status.evaluation.judgements) == (Phase.HELD, 0)
    annotate(held, **{REEVALUATE_ANNOTATION: "1"})
    held.settle()
    held.succeed("evaluate", evaluation=EvaluationResult(number=2, artifact_digest=DIGEST, scored_tokens=99))
    held.settle()
    assert (held.phase, held.run.status.evaluation.judgements) == (Phase.HELD, 1)
    annotate(held, **{REEVALUATE_ANNOTATION: "2"})
    held.settle()
    held.succeed("evaluate")
    held.settle()
    assert (held.phase, held.run.status.evaluation.judgements) == (Phase.ROLLING_OUT, 2)


@pytest.mark.parametrize(
    ("found", "words"),
    [(OTHER_DIGEST, f"upon {OTHER_DIGEST}, not upon"), (None, "upon data without a digest, not upon")],
    ids=["another", "none"],
)
def test_A_C_an_evaluation_upon_other_data_than_prepare_held_out_is_inconclusive(found, words):
    world = World(a_run())
    world.settle()
    world.succeed("prepare", held_out_digest=DIGEST)
    world.through("learn", "export")
    evaluation = EvaluationResult(number=1, artifact_digest=DIGEST, data_digest=found, scored_tokens=1000)
    world.succeed("evaluate", evaluation=evaluation)
    world.settle()
    assert (world.phase, world.promotions) == (Phase.HELD, 0)
    assert words in world.run.status.evaluation.reason
    annotate(world, **{REEVALUATE_ANNOTATION: "1"})
    world.settle()
    ours = EvaluationResult(number=2, artifact_digest=DIGEST, data_digest=DIGEST, scored_tokens=1000)
    world.succeed("evaluate", evaluation=ours)
    world.settle()
    assert world.phase is Phase.ROLLING_OUT


def test_A_what_is_live_has_to_be_known_before_a_model_is_compared_with_it_and_nothing_else_waits_for_that():
    world = World(a_run(gates=RELATIVE))
    world.endpoint = EndpointView(unreadable="its spec has a newer field")
    world.through("prepare", "learn", "export")
    progressing = world.condition("Progressing")
    assert (world.phase, progressing.reason) == (Phase.EVALUATING, "EndpointUnreadable")
    assert "its spec has a newer field" in progressing.message
    assert "evaluate" not in world.attempts
    a_live_other_version(world)
    world.endpoint = replace(world.endpoint, unreadable="")
    world.settle()
    assert len(world.attempts["evaluate"]) == 1


def test_a_regression_gate_names_the_live_version_to_the_evaluation():
    world = World(a_run(gates=RELATIVE))
    a_live_other_version(world)
    world.through("prepare", "learn", "export")
    create = next(c for d in world.decisions for c in d.create if c.step == "evaluate")
    assert create.baseline == Baseline("file:///live", OTHER_DIGEST, "store")
    assert str(create.baseline) == f"file:///live@{OTHER_DIGEST}"


def test_a_run_is_judged_again_when_the_live_version_changed_before_the_rollout():
    world = World(a_run(gates=RELATIVE))
    world.through("prepare", "learn", "export")
    a_live_other_version(world)
    world.succeed("evaluate")
    world.settle()
    assert judged_again(world) == ["the model is judged again: the live version changed since"]
    assert world.phase is Phase.EVALUATING
    assert world.promotions == 0
    evaluation = EvaluationResult(
        number=2, artifact_digest=DIGEST, scored_tokens=1000,
        baseline_digest=OTHER_DIGEST, baseline_metrics={"perplexity": 5.0},
    )  # fmt: skip
    world.succeed("evaluate", evaluation=evaluation)
    world.settle()
    assert world.phase is Phase.REJECTED


def test_a_run_that_was_rejected_is_not_judged_again_when_another_model_goes_live():
    world = World(a_run(gates=RELATIVE))
    world.through("prepare", "learn", "export")
    world.succeed("evaluate", metrics={"perplexity": 20.5})
    world.settle()
    a_live_other_version(world)
    world.settle()
    assert (world.phase, len(world.attempts["evaluate"])) == (Phase.REJECTED, 1)


def test_a_run_whose_endpoint_was_told_is_not_judged_again_when_another_model_goes_live_before_it():
    world = World(a_run(gates=RELATIVE))
    world.through(*ALL)
    assert (world.phase, world.promotions) == (Phase.ROLLING_OUT, 1)
    world.goes_live(OTHER_DIGEST)
    world.settle()
    assert (world.phase, world.promotions, len(world.attempts["evaluate"])) == (Phase.ROLLING_OUT, 1, 1)


def test_that_the_live_version_has_learned_what_is_held_out_is_a_warning_and_no_verdict():
    for overlap, note in ((2, "2 of 9 stand in it"), (0, "whether it is so is not known"), (2, None)):
        world = World(a_run(gates=RELATIVE))
        a_live_other_version(world)
        world.through("prepare", "learn", "export")
        evaluation = EvaluationResult(
            number=1, artifact_digest=DIGEST, scored_tokens=1000, baseline_digest=OTHER_DIGEST,
            baseline_metrics={"perplexity": 50.0}, baseline_overlap=overlap, baseline_note=note,
        )  # fmt: skip
        world.succeed("evaluate", evaluation=evaluation)
        assert ("LiveHasLearnedIt" in events_of(world.reconcile())) == bool(overlap and note)
        world.settle()
        assert world.promotions == 1
        recorded = world.run.status.evaluation
        assert (recorded.baseline_overlap, recorded.baseline_note) == (overlap, note)


def test_A_a_suspended_run_is_not_promoted_on_a_comparison_with_what_is_live_no_more():
    world = World(a_run(gates=RELATIVE))
    world.through(*ALL)
    world.goes_live()
    world.settle()
    a_live_other_version(world)
    suspend(world, True)
    world.settle()
    assert (world.promotions, world.phase) == (1, Phase.SERVING)
    assert (world.condition("Live").status, world.condition("Live").reason) == ("False", "Suspended")
    suspend(world, False)
    world.settle()
    assert (world.promotions, world.phase) == (1, Phase.EVALUATING)


def test_a_run_that_serves_and_is_suspended_goes_on_serving():
    world = World(a_run(gates=RELATIVE))
    world.through(*ALL)
    world.goes_live()
    world.settle()
    before = world.run.status
    suspend(world, True)
    world.settle()
    assert (world.phase, world.condition("Live")) == (Phase.SERVING, conditions.find(before.conditions, "Live"))


def test_F_a_superseded_run_is_not_judged_again_when_other_models_go_live():
    world = World(a_run(gates=RELATIVE))
    world.through(*ALL)
    world.goes_live()
    world.settle()
    world.goes_live(OTHER_DIGEST, version=2)
    world.endpoint = replace(world.endpoint, claim=Claim("newer", OTHER_DIGEST, "2027-01-01T00:00:00Z", "u"))
    world.settle()
    assert world.phase is Phase.COMPLETED
    assert len(world.attempts["evaluate"]) == 1


# ------------------------------------------------------------------------------------------- retries and restarts


def test_counted_failures_end_the_run_after_the_retries():
    world = World(a_run(retries=2))
    world.through("prepare")
    for _ in range(3):
        assert world.phase is not Phase.FAILED
        world.fail("learn")
        world.settle()
        world.wait(1000)
        world.settle()
    assert world.phase is Phase.FAILED
    assert len(world.attempts["learn"]) == 3
    assert world.condition("Progressing").message == "learn failed after 3 attempts: Internal: it broke"


def test_a_failure_is_not_tried_again_before_its_backoff():
    world = World(a_run())
    world.settle()
    world.fail("prepare")
    begun = world.record("prepare").started_at
    decision = world.reconcile()
    assert decision.create == ()
    assert decision.look_again is not None
    assert (world.phase, world.condition("Progressing").reason) == (Phase.PREPARING, "BackingOff")
    world.wait(decision.look_again.total_seconds())
    assert [c.number for c in world.reconcile().create] == [2]
    assert world.record("prepare").started_at == begun, "that of the step, not of the attempt"


def test_a_retry_prepares_again_what_a_stage_found_damaged():
    world = World(a_run())
    world.through("prepare")
    world.fail("learn", kind="DamagedShard", exit_class=ExitClass.BAD_INPUT)
    world.settle()
    assert world.phase is Phase.FAILED
    annotate(world, **{RETRY_ANNOTATION: "now"})
    world.through("prepare")
    assert len(world.attempts["prepare"]) == 2
    assert len(world.attempts["learn"]) == 2
    assert world.phase is Phase.TRAINING


@pytest.mark.parametrize("annotation", [RETRY_ANNOTATION, REEVALUATE_ANNOTATION])
def test_an_annotation_longer_than_a_status_holds_is_honoured_once(annotation):
    world = World(a_run())
    world.through("prepare", "learn", "export")
    world.fail("evaluate", kind="BadInput", exit_class=ExitClass.BAD_INPUT)
    world.settle()
    assert world.phase is Phase.HELD
    for letter in "ab":
        annotate(world, **{annotation: letter * 5000})
        before = len(world.attempts["evaluate"])
        world.settle()
        assert len(world.attempts["evaluate"]) == before + 1
        world.fail("evaluate", kind="BadInput", exit_class=ExitClass.BAD_INPUT)
        world.settle()
        assert len(world.attempts["evaluate"]) == before + 1
        assert type(world.run.status).model_validate_json(world.run.status.model_dump_json(by_alias=True))


def test_a_damaged_artifact_is_exported_again_before_it_is_judged_again():
    world = World(a_run())
    world.through("prepare", "learn", "export")
    world.fail("evaluate", kind="BadArtifact", exit_class=ExitClass.BAD_INPUT)
    world.settle()
    assert world.phase is Phase.HELD
    annotate(world, **{REEVALUATE_ANNOTATION: "now"})
    world.settle()
    assert len(world.attempts["export"]) == 2
    assert len(world.attempts["evaluate"]) == 1
    world.through("export", "evaluate")
    assert world.record("evaluate").attempt == 2
    assert world.promotions == 1


def test_held_out_data_that_was_found_damaged_is_prepared_again_before_the_model_is_judged_again():
    world = World(a_run())
    world.through("prepare", "learn", "export")
    world.fail("evaluate", kind="DamagedShard", exit_class=ExitClass.BAD_INPUT)
    world.settle()
    assert world.phase is Phase.HELD
    annotate(world, **{REEVALUATE_ANNOTATION: "now"})
    world.settle()
    assert [len(world.attempts[step]) for step in ("prepare", "learn", "evaluate")] == [2, 1, 1]
    world.through("prepare", "evaluate")
    assert world.record("evaluate").attempt == 2
    assert world.promotions == 1


def test_a_retry_of_anything_else_prepares_nothing():
    world = World(a_run())
    world.through("prepare")
    world.fail("learn", kind="BadConfig", exit_class=ExitClass.BAD_INPUT)
    world.settle()
    annotate(world, **{RETRY_ANNOTATION: "now"})
    world.settle()
    assert len(world.attempts["prepare"]) == 1
    assert len(world.attempts["learn"]) == 2


def test_bad_input_is_never_retried():
    world = World(a_run())
    world.settle()
    world.fail("prepare", kind="BadData", exit_class=ExitClass.BAD_INPUT)
    world.settle()
    assert world.phase is Phase.FAILED
    assert world.condition("Progressing").message == "prepare failed: BadData: it broke"
    assert [event.reason for one in world.decisions for event in one.events].count("BadInput") == 1


@pytest.mark.parametrize("exit_class", [ExitClass.INTERRUPTED, ExitClass.LOST_PEERS])
def test_interruptions_that_make_progress_are_never_counted(exit_class):
    world = World(a_run(retries=0))
    world.through("prepare")
    for attempt in range(1, 8):
        world.reach("learn", attempt * 10)
        world.settle()
        world.end("learn", exit_class)
        world.settle()
        assert len(world.attempts["learn"]) == attempt + 1
    assert world.record("learn").failures == 0


def test_three_interruptions_without_progress_are_one_failure():
    world = World(a_run(retries=1))
    world.through("prepare")
    for _ in range(3):
        world.end("learn", ExitClass.INTERRUPTED)
        world.settle()
    assert world.record("learn").failures == 1
    world.wait(1000)
    world.settle()
    assert world.phase is Phase.TRAINING


def test_D_an_attempt_that_was_killed_together_with_its_executor_made_the_progress_that_status_knows():
    world = World(a_run())
    world.through("prepare")
    for reached in (10, 20, 30, 40):
        world.reach("learn", reached)
        world.settle()
        world._change("learn", progress=None)  # What the executor had heard is gone with it.
        world.end("learn", ExitClass.INTERRUPTED)
        world.settle()
        assert world.record("learn").resumed_step == reached
    assert world.record("learn").failures == 0


def test_an_attempt_that_vanished_is_an_interruption():
    world = World(a_run())
    world.settle()
    world.attempts["prepare"].clear()
    world.settle()
    assert [a.number for a in world.attempts["prepare"]] == [2]


def test_F_an_attempt_that_appears_after_its_step_was_done_changes_nothing_of_the_record():
    world = World(a_run())
    world.through("prepare")
    before = world.record("prepare")
    stray = replace(world.attempts["prepare"][-1], number=2, state="Running", exit_class=None, result=None)
    world.attempts["prepare"].append(stray)
    world.settle()
    assert (world.record("prepare"), world.phase) == (before, Phase.TRAINING)
    world.fail("prepare")
    world.settle()
    assert (world.record("prepare"), world.phase) == (before, Phase.TRAINING)


def test_an_attempt_that_ended_nobody_knows_how_has_failed():
    world = World(a_run())
    world.settle()
    world.end("prepare", None)
    world.reconcile()
    assert (world.record("prepare").failures, world.record("prepare").message) == (1, "boom")


@pytest.mark.parametrize(
    ("step", "progress", "words"),
    [
        ("prepare", None, "prepare was interrupted and begins anew: the pod was preempted"),
        ("prepare", Progress(kept=1), "prepare was interrupted and goes on: the pod was preempted"),
        ("learn", None, "learn was interrupted and goes on: the pod was preempted"),
    ],
)
def test_what_an_interruption_costs_is_said(step, progress, words):
    world = World(a_run())
    world.through(*ALL[: ALL.index(step)])
    world._change(step, state="Running", progress=progress)
    world.end(step, ExitClass.INTERRUPTED, message="the pod was preempted")
    (told,) = [event for event in world.reconcile().events if event.reason == "StepInterrupted"]
    assert told.message == words
    assert (world.record(step).stalled_since is not None) == ("anew" in words)


def test_attempts_that_keep_vanishing_are_a_failure():
    world = World(a_run())
    world.through("prepare")
    for _ in range(3):
        world.attempts["learn"].clear()
        world.settle()
    assert world.record("learn").failures == 1


def is_interrupted(world: World, step: str, times: int, *, every: float, exit_class=ExitClass.INTERRUPTED) -> None:
    """Its newest attempt is interrupted, again and again, each time so many seconds after it was the last time."""
    for _ in range(times):
        world.wait(every)
        world.settle()
        assert world.attempts[step][-1].state != "Ended", "the pause is over"
        world.end(step, exit_class, message="the pod was preempted")
        world.settle()


@pytest.mark.parametrize("step", ["prepare", "export", "evaluate"])
@pytest.mark.parametrize("exit_class", [ExitClass.INTERRUPTED, ExitClass.LOST_PEERS])
def test_a_step_without_training_steps_that_is_drained_from_node_to_node_has_not_failed(step, exit_class):
    world = World(a_run(retries=0))
    world.through(*ALL[: ALL.index(step)])
    is_interrupted(world, step, 9, every=310, exit_class=exit_class)
    assert (world.record(step).failures, world.record(step).stalls) == (0, 9)
    world.wait(310)
    world.through(*ALL[ALL.index(step) :])
    assert world.phase is Phase.ROLLING_OUT
    assert (world.record(step).stalls, world.record(step).stalled_since) == (0, None)


@pytest.mark.parametrize("step", ["prepare", "export", "evaluate"])
def test_a_step_without_training_steps_that_is_interrupted_for_ever_fails_with_words(step):
    world = World(a_run(retries=0))
    world.through(*ALL[: ALL.index(step)])
    is_interrupted(world, step, 10, every=400)
    record = world.record(step)
    assert (record.state, record.attempt) == (StepState.FAILED, 10)
    assert record.message.startswith("interrupted 10 times in 1 h 0 min, and got no further: ")
    assert "the pod was preempted" in record.message


def test_a_step_without_training_steps_that_is_interrupted_often_in_a_short_time_is_given_time():
    world = World(a_run(retries=0))
    world.settle()
    is_interrupted(world, "prepare", 3, every=40)
    assert world.record("prepare").failures == 0


def test_a_step_that_is_interrupted_again_and_again_waits_ever_longer():
    world = World(a_run())
    world.settle()
    pauses = []
    for _ in range(8):
        world.end("prepare", ExitClass.INTERRUPTED)
        decision = world.reconcile()
        pauses.append(decision.look_again.total_seconds() if decision.look_again else 0)
        world.wait(pauses[-1])
        world.settle()
    assert pauses == [0, 10, 20, 40, 80, 160, 300, 300]


def test_prepare_that_goes_on_with_what_it_has_fetched_makes_progress():
    world = World(a_run(retries=0))
    world.settle()
    for gigabyte in range(1, 40):
        world._change("prepare", state="Running", progress=Progress(kept=gigabyte << 30))
        world.wait(600)
        world.settle()
        world._change("prepare", progress=None)  # It was killed, and left no word.
        world.end("prepare", ExitClass.INTERRUPTED)
        world.settle()
        assert (world.record("prepare").stalls, world.record("prepare").attempt) == (0, gigabyte + 1)
    assert world.record("prepare").resumed_step == 39 << 30


def test_a_suspension_between_interruptions_is_no_time_in_which_a_step_got_no_further():
    world = World(a_run(retries=0))
    world.through("prepare", "learn", "export")
    is_interrupted(world, "evaluate", 9, every=310)
    world.wait(310)
    world.settle()
    suspend(world, True)
    world.settle()
    world.wait(24 * 3600)
    suspend(world, False)
    world.settle()
    assert world.running(), "nor is there a pause after it"
    world.end("evaluate", ExitClass.INTERRUPTED)
    world.settle()
    assert world.record("evaluate").failures == 0


def test_what_a_release_recorded_as_stalls_of_prepare_is_given_time():
    world = World(a_run(retries=0))
    world.settle()
    record = world.record("prepare").model_copy(update={"stalls": 2})
    world.run = world.run.model_copy(update={"status": world.run.status.model_copy(update={"stages": [record]})})
    world.end("prepare", ExitClass.INTERRUPTED)
    world.settle()
    assert world.record("prepare").failures == 0


def test_a_pause_begins_when_the_attempt_ended_and_not_when_somebody_saw_it():
    world = World(a_run())
    world.settle()
    world.fail("prepare")
    world.wait(3600)
    world.settle()
    assert (world.record("prepare").attempt, world.record("prepare").failures) == (2, 1)


def test_a_step_began_when_its_first_attempt_did():
    world = World(a_run())
    world.settle()
    begun = world.record("prepare").started_at
    world.wait(60)
    world.fail("prepare")
    world.settle()
    world.wait(60)
    world.settle()
    world.reach("prepare", 1)
    world.settle()
    assert (world.record("prepare").attempt, world.record("prepare").started_at) == (2, begun)


def test_a_clock_that_is_ahead_prolongs_no_pause():
    world = World(a_run())
    world.settle()
    world.fail("prepare")
    ahead = world.now + timedelta(hours=3)
    world.attempts["prepare"][-1] = replace(world.attempts["prepare"][-1], finished_at=ahead)
    world.settle()
    assert world.record("prepare").state is StepState.WAITING
    world.wait(11)
    world.settle()
    assert world.record("prepare").attempt == 2


def test_the_clock_of_another_replica_that_was_ahead_prolongs_no_pause():
    world = World(a_run())
    world.settle()
    world.fail("prepare")
    world.attempts["prepare"][-1] = replace(world.attempts["prepare"][-1], finished_at=None)
    world.wait(2 * 3600)
    world.settle()
    assert world.record("prepare").state is StepState.WAITING
    world.wait(-2 * 3600)
    world.settle()
    world.wait(11)
    world.settle()
    assert world.record("prepare").attempt == 2


def test_what_an_attempt_says_fits_into_status_however_long_it_is():
    world = World(a_run(retries=0))
    world.through("prepare", "learn", "export")
    world.end("evaluate", ExitClass.FAILED, message="x" * 5000)
    world.settle()
    assert world.phase is Phase.HELD
    assert type(world.run.status).model_validate(world.run.status.model_dump()) == world.run.status


def test_a_result_that_cannot_be_read_fits_into_status_however_long_the_reason_is():
    world = World(a_run(retries=0))
    world.through("prepare", "learn")
    world.end("export", ExitClass.DONE)
    world._change("export", result_error="x" * 5000)
    world.settle()
    assert (world.phase, len(world.record("export").message)) == (Phase.FAILED, 4096)


def test_the_reasons_of_many_gates_fit_into_status_together():
    relative = [{"metric": metric, "maxRegression": 1} for metric in TEXT_METRICS]
    world = World(a_run(gates=[{"metric": "perplexity", "max": 20}, *relative]))
    a_live_other_version(world)
    world.through("prepare", "learn", "export")
    result = EvaluationResult(number=1, artifact_digest=DIGEST, scored_tokens=1000, baseline_digest=OTHER_DIGEST)
    world.succeed(
        "evaluate", metrics=dict.fromkeys(TEXT_METRICS, 10.0), missing={"baseline": "x" * 1024}, evaluation=result
    )
    world.settle()
    assert world.phase is Phase.HELD
    assert world.run.status.evaluation.reason.startswith("perplexity 10, wanted <= live + 1: xxx")


def test_the_reason_of_one_metric_fits_into_status():
    world = World(a_run())
    world.through("prepare", "learn", "export")
    world.succeed("evaluate", metrics={}, missing={"perplexity": "x" * 5000})
    world.settle()
    assert world.phase is Phase.HELD


def test_of_too_many_metrics_those_that_gates_name_are_kept():
    world = World(a_run())
    world.through("prepare", "learn", "export")
    world.succeed("evaluate", metrics={**{f"metric_{n}": 1.0 for n in range(80)}, "perplexity": 10.0})
    world.settle()
    kept = world.record("evaluate").metrics
    assert (len(kept), kept["perplexity"], kept["metric_0"]) == (64, 10.0, 1.0)
    assert world.phase is Phase.ROLLING_OUT


def test_an_export_that_names_no_artifact_has_failed():
    world = World(a_run(retries=0))
    world.through("prepare", "learn")
    world.end("export", ExitClass.DONE)
    world.settle()
    assert world.phase is Phase.FAILED
    assert world.condition("Progressing").message == "export failed: the export named no artifact"


def test_a_failed_run_gets_its_retries_back_by_annotation_once():
    world = World(a_run(retries=0))
    world.settle()
    world.fail("prepare")
    world.settle()
    assert world.phase is Phase.FAILED
    annotate(world, **{RETRY_ANNOTATION: "now"})
    assert "Retrying" in events_of(world.reconcile())
    world.settle()
    assert world.phase is Phase.PREPARING
    assert (world.record("prepare").failures, world.record("prepare").stalls) == (0, 0)
    world.fail("prepare")
    world.settle()
    assert world.phase is Phase.FAILED


# ------------------------------------------------------------------------------------------------------ suspend


def test_a_warning_of_a_step_is_a_condition_while_it_lasts_and_an_event_when_it_begins():
    world = World(a_run())
    world.through("prepare")
    warned = Progress(step=3, total=100, warning="the checkpoint could not be written")
    world._change("learn", state="Running", progress=warned)
    decision = world.reconcile()
    condition = world.condition("StepWarning")
    assert (condition.status, condition.reason) == ("True", "Warned")
    assert condition.message == "learn: the checkpoint could not be written"
    assert "Warned" in events_of(decision)
    assert world.phase is Phase.TRAINING
    world._change("learn", progress=warned.model_copy(update={"warning": "again it could not be written"}))
    assert "Warned" not in events_of(world.reconcile())
    world._change("learn", progress=None)
    world.reconcile()
    assert world.condition("StepWarning").message == "learn: again it could not be written", "silence is no word"
    world.reach("learn", 5)
    world.reconcile()
    assert world.condition("StepWarning") is None


def test_a_warning_that_lasts_to_the_end_of_a_step_stays_in_its_record():
    world = World(a_run())
    world.through("prepare")
    last = Progress(step=100, total=100, warning="metrics.jsonl lacks 389 rows")
    world.succeed("learn", progress=last)
    world.settle()
    assert world.condition("StepWarning") is None
    assert world.record("learn").progress.warning == "metrics.jsonl lacks 389 rows"


def test_what_a_step_has_found_stays_in_its_record_and_is_one_event_when_it_is_done():
    world = World(a_run())
    world.settle()
    world._change("prepare", state="Running", progress=Progress(warnings=["the judge does not answer"]))
    assert "StepWarned" not in events_of(world.reconcile())
    assert world.record("prepare").progress.warnings == ["the judge does not answer"]
    assert world.run.status.warnings == 1
    found = ["the judge does not answer", "evaluation.gates[0] (perplexity) can never pass"]
    world.succeed("prepare", warnings=found)
    told = [event for event in world.reconcile().events if event.reason == "StepWarned"]
    assert [(event.type, event.message) for event in told] == [("Warning", f"prepare: {'; '.join(found)}")]
    world.through("learn", "export", "evaluate")
    world.settle()
    assert world.record("prepare").progress.warnings == found
    assert world.run.status.warnings == 2
    assert sum("StepWarned" in events_of(decision) for decision in world.decisions) == 1
    assert world.condition("StepWarning") is None, "nothing is wrong with the step"


FOUND = ["the judge does not answer", "evaluation.gates[0] (perplexity) can never pass"]


def warned_events(world: World) -> list[tuple[str, str]]:
    every = [event for decision in world.decisions for event in decision.events]
    return [(event.type, event.message) for event in every if event.reason == "StepWarned"]


@pytest.mark.parametrize(
    "end",
    [
        lambda world: world.fail("prepare", "BadData", ExitClass.BAD_INPUT),
        lambda world: world.fail("prepare"),
        lambda world: world.end("prepare", ExitClass.FAILED),
        lambda world: world.attempts.pop("prepare"),
    ],
    ids=["refused", "failed", "killed", "vanished"],
)
def test_what_a_step_has_found_is_one_event_when_it_has_failed_for_good(end):
    world = World(a_run(retries=0))
    world.settle()
    world._change("prepare", state="Running", progress=Progress(warnings=FOUND))
    world.settle()
    assert warned_events(world) == []
    # A step that vanishes has done nothing wrong, until it does so again and again.
    for _ in range(50):
        end(world)
        world.settle()
        if world.phase is Phase.FAILED:
            break
        world.wait(1000)
        world.settle()
        world._change("prepare", state="Running", progress=Progress(warnings=FOUND))
        world.settle()
    assert world.phase is Phase.FAILED
    assert warned_events(world) == [("Warning", f"prepare: {'; '.join(FOUND)}")]
    world.settle()
    assert world.record("prepare").progress.warnings == FOUND
    assert len(warned_events(world)) == 1


def test_what_an_attempt_has_found_is_no_event_while_another_follows():
    world = World(a_run(retries=1))
    world.settle()
    world._change("prepare", state="Running", progress=Progress(warnings=FOUND))
    world.settle()
    world.fail("prepare")
    world.settle()
    assert (world.record("prepare").state, warned_events(world)) == (StepState.WAITING, [])
    world.wait(60)
    world.settle()
    world.fail("prepare")
    world.settle()
    assert (world.phase, warned_events(world)) == (Phase.FAILED, []), "the last attempt warned of nothing"


def test_an_evaluation_that_warned_and_crashed_tells_both():
    world = World(a_run(retries=0))
    world.through("prepare", "learn", "export")
    world.settle()
    world._change("evaluate", state="Running", progress=Progress(warnings=FOUND))
    world.settle()
    world.fail("evaluate")
    world.settle()
    assert world.phase is Phase.HELD
    assert warned_events(world) == [("Warning", f"evaluate: {'; '.join(FOUND)}")]


def test_what_was_heard_of_a_step_that_was_killed_stays_until_its_next_attempt_begins():
    world = World(a_run())
    world.settle()
    world._change("prepare", state="Running", progress=Progress(kept=5, warnings=["the judge does not answer"]))
    world.settle()
    world.end("prepare", ExitClass.FAILED)
    world.reconcile()
    record = world.record("prepare")
    assert (record.state, record.progress.kept) == (StepState.WAITING, 5)
    assert record.progress.warnings == ["the judge does not answer"]
    world.wait(60)
    world.settle()
    assert (world.record("prepare").attempt, world.record("prepare").progress.kept) == (2, 5)
    assert world.record("prepare").progress.warnings is None
    world.succeed("prepare", warnings=["it answers slowly"])
    world.settle()
    assert world.record("prepare").progress.warnings == ["it answers slowly"]


@pytest.mark.parametrize("record_is_lost", [False, True], ids=["made by this record", "adopted"])
def test_what_a_dead_attempt_warned_of_is_gone_where_the_next_one_does_not_find_it(record_is_lost):
    world = World(a_run())
    world.settle()
    last = Progress(kept=5, warning="the disk is full", warnings=["the judge does not answer"])
    world._change("prepare", state="Running", progress=last)
    world.settle()
    world.fail("prepare")
    world.reconcile()
    world.wait(60)
    # The executor may die when it has made the attempt, before it says so in the record.
    world.reconcile(dies_before=1 if record_is_lost else None)
    assert len(world.attempts["prepare"]) == 2
    world.succeed("prepare")
    decision = world.reconcile()
    assert "StepSucceeded" in events_of(decision)
    assert "StepWarned" not in events_of(decision)
    progress = world.record("prepare").progress
    assert (progress.kept, progress.warning, progress.warnings) == (5, None, None)
    assert world.run.status.warnings is None


SIX = [f"{number} {'夜' * 250}" for number in range(6)]


def cut(found: list[str]) -> dict[str, Any]:
    """What a result says of warnings for which it has little room."""
    gates = [f"sha256:{number:064x}" for number in range(28)]
    result = StepResult(
        step="prepare",
        attempt=1,
        held_out_digest=gates[0],
        held_out_sketch="0123456789abcdef" * 64,
        gate_data=gates,
        warnings=found,
    )
    told = step_result.decode(step_result.encode(result))
    assert told.warnings != found, "there is little room"
    return {"warnings": told.warnings, "warnings_found": told.warnings_found}


@pytest.mark.parametrize("forgotten", [False, True], ids=["by this executor", "by one before it"])
def test_what_was_heard_whole_stays_whole_where_the_result_of_the_same_attempt_has_no_room(forgotten):
    world = World(a_run())
    world.settle()
    world._change("prepare", state="Running", progress=Progress(warnings=SIX))
    world.reconcile()
    if forgotten:
        world._change("prepare", progress=None)
    world.succeed("prepare", **cut(SIX))
    (told,) = [event for event in world.reconcile().events if event.reason == "StepWarned"]
    assert told.message == f"prepare: {'; '.join(SIX)}"
    assert world.record("prepare").progress.warnings == SIX


@pytest.mark.parametrize("heard", range(6))
def test_what_was_found_after_the_last_look_is_told_as_the_result_has_it(heard):
    world = World(a_run())
    world.settle()
    world._change("prepare", state="Running", progress=Progress(warnings=SIX[:heard] or None))
    world.reconcile()
    said = cut(SIX)
    world.succeed("prepare", **said)
    world.reconcile()
    *lines, last = world.record("prepare").progress.warnings
    cuts = said["warnings"][:-1]
    assert lines == [*SIX[:heard], *cuts[heard:]]
    assert last == "more warnings are in the log of this step"


def test_more_than_a_record_holds_is_still_said_beside_what_was_heard():
    many = [f"{number} {'夜' * 250}" for number in range(9)]
    world = World(a_run())
    world.settle()
    world._change("prepare", state="Running", progress=Progress(warnings=many[:8]))
    world.reconcile()
    world.succeed("prepare", **cut(bounded_warnings(many)))
    world.reconcile()
    assert world.record("prepare").progress.warnings == bounded_warnings(many)


def test_a_step_that_failed_keeps_what_its_result_warns_of():
    world = World(a_run())
    world.settle()
    error = StepError(kind="BadData", message="a.jsonl:3: bad")
    result = StepResult(step="prepare", attempt=1, error=error, warnings=["the judge does not answer"])
    world.end("prepare", ExitClass.BAD_INPUT, result)
    world.reconcile()
    assert world.record("prepare").state is StepState.FAILED
    assert world.record("prepare").progress.warnings == ["the judge does not answer"]
    assert world.run.status.warnings == 1


def test_a_run_without_a_warning_has_no_number_of_them():
    world = World(a_run())
    world.through("prepare", "learn")
    world.settle()
    assert world.run.status.warnings is None
    assert "warnings" not in world.run.status.to_document()


def test_suspend_stops_the_attempt_and_goes_on_where_it_was():
    world = World(a_run())
    world.through("prepare")
    world.reach("learn", 7)
    suspend(world, True)
    world.settle()
    assert world.phase is Phase.SUSPENDED
    assert world.running() == []
    suspend(world, False)
    world.settle()
    assert world.phase is Phase.TRAINING
    assert [a.number for a in world.attempts["learn"]] == [1, 2]
    assert world.record("learn").failures == 0


def test_E_each_attempt_has_its_own_record_of_what_it_is_spread_over():
    world = World(a_run(compute={"nodes": 2, "processesPerNode": 4}))
    world.through("prepare")
    assert (world.record("prepare").nodes, world.record("prepare").processes_per_node) == (None, None)
    assert (world.record("learn").nodes, world.record("learn").processes_per_node) == (2, 4)
    suspend(world, True)
    world.settle()
    elsewhere = a_run(compute={"nodes": 8}).spec.compute
    world.plan = plans.placed(world.plan, elsewhere)
    world.settle()
    assert (world.record("learn").nodes, world.record("learn").processes_per_node) == (2, 4), "it was that one"
    suspend(world, False)
    world.settle()
    assert (world.record("learn").attempt, world.record("learn").nodes) == (2, 8)


def test_E_an_attempt_that_was_made_before_an_edit_and_is_adopted_after_it_is_recorded_as_it_was_made():
    world = World(a_run(compute={"nodes": 8}))
    world.through("prepare")
    made = replace(world.attempts["learn"][-1], number=2, nodes=2, processes_per_node=4)
    world.fail("learn", exit_class=ExitClass.INTERRUPTED)
    world.attempts["learn"].append(made)
    world.reconcile()
    assert (world.record("learn").attempt, world.record("learn").nodes) == (2, 2)


def test_suspending_again_and_again_before_the_first_checkpoint_is_no_failure():
    world = World(a_run())
    world.through("prepare")
    for _ in range(4):
        suspend(world, True)
        world.settle()
        suspend(world, False)
        world.settle()
    assert (world.phase, world.record("learn").failures, world.record("learn").stalls) == (Phase.TRAINING, 0, 0)


def test_going_on_before_the_suspended_attempt_has_ended_is_no_failure():
    world = World(a_run())
    world.through("prepare")
    for _ in range(10):
        suspend(world, True)
        world._save(world.decide())  # It has its grace period.
        suspend(world, False)
        world.reconcile()
        assert world.phase is Phase.TRAINING
        world.end("learn", ExitClass.INTERRUPTED)
        world.settle()
    assert (world.phase, world.record("learn").failures, world.record("learn").stalls) == (Phase.TRAINING, 0, 0)
    for _ in range(3):
        world.end("learn", ExitClass.INTERRUPTED)
        world.settle()
    assert world.record("learn").failures == 1, "what nobody suspended counts"


def test_a_failed_run_that_is_suspended_is_retried_once_it_may_go_on():
    world = World(a_run(retries=0))
    world.through("prepare")
    world.fail("learn")
    world.settle()
    assert world.phase is Phase.FAILED
    suspend(world, True)
    annotate(world, **{RETRY_ANNOTATION: "1"})
    world.settle()
    assert (world.phase, len(world.attempts["learn"])) == (Phase.FAILED, 1)
    suspend(world, False)
    world.settle()
    assert (world.phase, len(world.attempts["learn"])) == (Phase.TRAINING, 2)


def test_a_held_run_that_is_suspended_is_judged_again_once_it_may_go_on():
    world = World(a_run())
    world.through("prepare", "learn", "export")
    world.succeed("evaluate", evaluation=None)
    world.settle()
    assert world.phase is Phase.HELD
    suspend(world, True)
    annotate(world, **{REEVALUATE_ANNOTATION: "1"})
    world.settle()
    assert (world.phase, len(world.attempts["evaluate"])) == (Phase.HELD, 1)
    suspend(world, False)
    world.settle()
    assert (world.phase, len(world.attempts["evaluate"])) == (Phase.EVALUATING, 2)


def test_suspending_a_finished_run_changes_nothing():
    world = World(a_run(serving=False))
    world.through(*ALL)
    suspend(world, True)
    world.settle()
    assert world.phase is Phase.COMPLETED


# ------------------------------------------------------------------------------------------------- the endpoint


def test_B_a_failed_rollout_fails_the_run_and_names_the_live_version():
    world = World(a_run())
    a_live_other_version(world)
    world.through(*ALL)
    world.candidate_fails()
    world.settle()
    assert world.phase is Phase.FAILED
    assert world.condition("Live").reason == "RolloutFailed"
    assert "version 1 stays live" in world.condition("Progressing").message


def test_a_run_never_replaces_one_that_was_created_later():
    world = World(a_run())
    world.goes_live(OTHER_DIGEST)
    world.endpoint = replace(world.endpoint, claim=Claim("newer", OTHER_DIGEST, "2027-01-01T00:00:00Z", "u"))
    world.through(*ALL)
    assert world.phase is Phase.COMPLETED
    assert world.condition("Live").reason == "Superseded"
    assert world.promotions == 0


def test_a_superseded_run_is_completed_and_not_live():
    world = World(a_run())
    world.through(*ALL)
    world.goes_live()
    world.settle()
    world.goes_live(OTHER_DIGEST, version=2)
    world.endpoint = replace(world.endpoint, claim=Claim("newer", OTHER_DIGEST, "2027-01-01T00:00:00Z", "u"))
    world.settle()
    assert world.phase is Phase.COMPLETED
    assert world.condition("Live").status == "False"
    progressing = world.condition("Progressing")
    assert (progressing.status, progressing.message) == ("False", "the model passed; run newer has the endpoint")


def test_what_the_endpoint_said_before_it_was_told_is_not_about_this_run():
    """Its history may hold the same model, from a run that was removed."""
    world = World(a_run())
    world.candidate_fails()
    world.through(*ALL)
    assert world.phase is Phase.ROLLING_OUT


def test_an_endpoint_that_was_deleted_stays_deleted_once_the_model_was_live():
    world = World(a_run())
    world.through(*ALL)
    world.goes_live()
    world.settle()
    world.endpoint = None
    world.settle()
    assert (world.phase, world.promotions) == (Phase.COMPLETED, 1)
    assert world.condition("Live").reason == "EndpointDeleted"
    annotate(world, **{RETRY_ANNOTATION: "again"})
    world.settle()
    assert (world.phase, world.promotions) == (Phase.ROLLING_OUT, 2)


def test_an_endpoint_that_is_deleted_while_a_model_rolls_out_is_made_again():
    world = World(a_run())
    world.through(*ALL)
    world.endpoint = None
    world.settle()
    assert (world.phase, world.promotions) == (Phase.ROLLING_OUT, 2)


def test_a_run_that_is_over_never_comes_back_when_the_endpoint_is_gone():
    world = World(a_run())
    world.endpoint = EndpointView(Claim("newer", OTHER_DIGEST, "2027-01-01T00:00:00Z", "u"))
    world.through(*ALL)
    before = world.run.status
    assert world.phase is Phase.COMPLETED
    world.endpoint = None
    world.settle()
    assert (world.run.status, world.promotions) == (before, 0)

    world = World(a_run())
    world.through(*ALL)
    world.candidate_fails()
    world.settle()
    assert world.phase is Phase.FAILED
    before = world.run.status
    world.endpoint = None
    world.settle()
    assert (world.run.status, world.promotions) == (before, 1)


def test_what_somebody_told_an_endpoint_by_hand_is_not_undone():
    world = World(a_run())
    world.through(*ALL)
    world.goes_live()
    world.settle()
    own = world.endpoint.claim
    world.endpoint = replace(world.endpoint, claim=replace(own, run="", digest=OTHER_DIGEST))
    world.settle()
    assert (world.phase, world.promotions) == (Phase.COMPLETED, 1)
    assert world.condition("Live").reason == "Replaced"


def test_a_retry_that_was_asked_of_the_endpoint_changes_no_run():
    world = World(a_run())
    world.through(*ALL)
    world.goes_live()
    world.settle()
    before = world.run.status
    world.endpoint = replace(world.endpoint, status=world.endpoint.status.model_copy(update={"retry": "by hand"}))
    world.settle()
    assert (world.run.status, world.promotions) == (before, 1)


def test_a_run_says_in_the_pass_that_tells_its_endpoint_that_it_did():
    world = World(a_run())
    world.through("prepare", "learn", "export")
    world.succeed("evaluate")
    assert world.reconcile().promote is not None
    live, progressing = world.condition("Live"), world.condition("Progressing")
    assert (live.status, live.message) == ("False", "endpoint chat was told to serve the model")
    assert (progressing.status, progressing.message) == ("True", "endpoint chat rolls the model out")


def test_a_run_does_not_serve_before_the_traffic_has_moved_to_its_model():
    world = World(a_run())
    world.through(*ALL)
    world.goes_live()
    view, before = world.endpoint, world.run.status
    world.endpoint = replace(view, status=view.status.model_copy(update={"phase": EndpointPhase.ROLLING_OUT}))
    world.settle()
    live = world.condition("Live")
    assert (world.phase, live.status, live.reason) == (Phase.ROLLING_OUT, "False", "RollingOut")
    assert world.run.status == before, "it takes a moment, which is worth no write"
    assert world.condition("Progressing").reason == "RollingOut"
    world.endpoint = view
    world.settle()
    assert (world.phase, world.condition("Live").status) == (Phase.SERVING, "True")
    assert world.run.status.endpoint.version == 1
    world.endpoint = replace(view, status=view.status.model_copy(update={"phase": EndpointPhase.ROLLING_OUT}))
    world.settle()
    live = world.condition("Live")
    assert (world.phase, live.status, live.reason) == (Phase.SERVING, "False", "NotAnswering"), "it begins no rollout"


def test_a_run_that_serves_begins_no_rollout_when_its_endpoint_does_not_answer():
    world = World(a_run())
    world.through(*ALL)
    world.goes_live()
    world.settle()
    since = world.condition("Progressing")
    world.wait(60)
    world.endpoint = replace(
        world.endpoint, status=world.endpoint.status.model_copy(update={"phase": EndpointPhase.DEGRADED})
    )
    world.settle()
    assert (world.phase, world.condition("Live").reason) == (Phase.SERVING, "NotAnswering")
    assert world.condition("Progressing") == since, "its time to live goes on"
    world.goes_live()
    world.settle()
    assert (world.phase, world.condition("Live").status) == (Phase.SERVING, "True")


def test_a_run_whose_version_does_not_come_up_says_where_the_reason_stands():
    """Its files were damaged, and somebody stopped the endpoint and had the run serve again."""
    world = World(a_run())
    world.through(*ALL)
    world.goes_live()
    world.endpoint = replace(
        world.endpoint, status=world.endpoint.status.model_copy(update={"phase": EndpointPhase.DEGRADED})
    )
    world.settle()
    live = world.condition("Live")
    assert (world.phase, live.reason) == (Phase.ROLLING_OUT, "NotAnswering")
    assert live.message.endswith("does not answer yet; `slipway status endpoint/chat` says why")
    assert world.condition("Progressing").message == live.message


def test_G_a_failed_rollout_that_the_endpoint_tried_again_serves_in_the_end():
    world = World(a_run())
    world.through(*ALL)
    world.candidate_fails()
    world.settle()
    assert world.phase is Phase.FAILED
    world.endpoint = replace(world.endpoint, status=world.endpoint.status.model_copy(update={"retry": "by hand"}))
    world.goes_live()
    world.settle()
    assert (world.phase, world.promotions) == (Phase.SERVING, 1)


def test_a_model_of_an_endpoint_is_told_to_another_one_when_serving_changes():
    world = World(a_run())
    world.through(*ALL)
    world.goes_live()
    world.settle()
    other = world.plan.serving.model_copy(update={"endpoint": "other"})
    world.plan = world.plan.model_copy(update={"serving": other})
    world.endpoint = None
    world.settle()
    assert (world.phase, world.promotions) == (Phase.ROLLING_OUT, 2)


# ------------------------------------------------------------------------------------------- conditions, events


def test_a_blocker_is_a_condition_while_it_lasts():
    world = World(a_run())
    world.settle()
    blocked = replace(world.observed(), blockers=(Blocker("Unschedulable", "NoGpu", "no node has nvidia.com/gpu"),))
    decision = lifecycle.step(world.run, world.plan, blocked, world.now)
    assert any(c.type == "Unschedulable" and c.status == "True" for c in decision.status.conditions)
    world.run = world.run.model_copy(update={"status": decision.status})
    world.settle()
    assert world.condition("Unschedulable") is None


def blocked_by(world: World, *blockers: Blocker) -> Decision:
    decision = lifecycle.step(world.run, world.plan, replace(world.observed(), blockers=blockers), world.now)
    world.run = world.run.model_copy(update={"status": decision.status})
    return decision


def test_F_a_blocker_is_an_event_when_it_is_new_or_has_another_reason_and_not_for_its_words_alone():
    world = World(a_run())
    world.settle()
    gpu = Blocker("Unschedulable", "NoAccelerator", "0/1 nodes have it")
    (told,) = [event for event in blocked_by(world, gpu).events if event.type == "Warning"]
    assert (told.reason, told.message) == ("NoAccelerator", "0/1 nodes have it")
    assert blocked_by(world, replace(gpu, message="0/2 nodes have it")).events == ()
    (again,) = blocked_by(world, replace(gpu, reason="NoNodeFits")).events
    assert again.reason == "NoNodeFits"
    quiet = replace(gpu, type="AccessOpen", warns=False)
    assert blocked_by(world, quiet).events == ()


@pytest.mark.parametrize("step", ["prepare", "learn", "export", "evaluate"])
def test_a_step_that_cannot_start_is_pending_and_progressing_names_the_cause(step):
    world = World(a_run())
    world.through(*ALL[: ALL.index(step)])
    started = world.phase
    blocked_by(world, Blocker("Unschedulable", "NoAccelerator", "no node has nvidia.com/gpu"))
    progressing = world.condition("Progressing")
    assert (world.phase, progressing.status, progressing.reason) == (Phase.PENDING, "True", "Waiting")
    assert progressing.message == f"{step} waits (attempt 1): Unschedulable"
    world.settle()
    assert (world.phase, world.condition("Progressing").reason) == (started, started.value)


def test_the_words_of_a_blocker_fit_into_a_condition():
    world = World(a_run())
    world.settle()
    blocked = replace(world.observed(), blockers=(Blocker("Unschedulable", "NoGpu", "x" * 65536),))
    decision = lifecycle.step(world.run, world.plan, blocked, world.now)
    assert any(c.type == "Unschedulable" and c.message.endswith("…") for c in decision.status.conditions)


def test_a_queued_attempt_shows_as_queued():
    world = World(a_run())
    world.settle()
    queued = replace(world.observed(), queued=Blocker("Queued", "QuotaExceeded", "team-a has no GPU left"))
    assert lifecycle.step(world.run, world.plan, queued, world.now).status.phase is Phase.QUEUED


def test_F_a_run_that_stays_queued_has_the_same_status_however_often_it_is_looked_at():
    world = World(a_run())
    world.settle()
    queued = replace(world.observed(), queued=Blocker("Queued", "QuotaExceeded", "team-a has no GPU left"))
    first = lifecycle.step(world.run, world.plan, queued, world.now).status
    later = world.run.model_copy(update={"status": first})
    assert lifecycle.step(later, world.plan, queued, world.now + timedelta(minutes=5)).status == first


def test_a_plan_is_named_by_its_digest_and_where_it_goes_on_in_an_earlier_folder_that_is_said_once():
    world = World(a_run())
    world.settle()
    planned = world.condition("Planned")
    assert (planned.reason, planned.message) == ("Resolved", f"the plan has the digest {world.plan.digest}")
    assert world.run.status.folder == world.plan.workspace_folder

    world = World(a_run())
    world.plan = world.plan.model_copy(update={"folder": "an-earlier-one"})
    assert events_of(world.reconcile()).count("FolderAdopted") == 1
    assert "FolderAdopted" not in events_of(world.reconcile())
    planned = world.condition("Planned")
    assert (planned.status, planned.reason) == ("True", "FolderAdopted")
    assert "to begin at zero, `slipway rm --now demo`" in planned.message


def test_E_a_folder_is_recorded_as_it_was_planned():
    world = World(a_run())
    world.settle()
    own, known = world.plan.workspace_folder, world.run.status
    later = world.plan.model_copy(update={"folder": "elsewhere"})

    def folder_of(status, plan):
        run = world.run.model_copy(update={"status": status})
        return lifecycle.step(run, plan, world.observed(), world.now).status.folder

    assert folder_of(known, later) == own, "what is recorded stays"
    older = known.model_copy(update={"folder": None})
    assert folder_of(older, world.plan) is None, "what an older release planned is not written anew for that"
    assert folder_of(older, later) == later.workspace_folder, "but where it was found since, that is said"


def test_every_change_of_phase_is_an_event():
    world = World(a_run())
    assert "PhaseChanged" in events_of(world.reconcile())
    world.reach("prepare", 0)
    assert "PhaseChanged" not in events_of(world.reconcile())


# ------------------------------------------------------------------------------------ a random world (A, B, F)


class RandomWorld(RuleBasedStateMachine):
    """Steps end in any way at any time, the executor dies between any two writes, others use the endpoint."""

    def __init__(self):
        super().__init__()
        self.world = World(a_run(retries=1, gates=RELATIVE))

    @initialize(steps=st.sampled_from([(), ("prepare", "learn", "export"), ALL]))
    def some_of_it_is_done_already(self, steps):
        self.world.through(*steps)

    @rule(dies_before=st.one_of(st.none(), st.integers(0, 3)))
    def reconcile(self, dies_before):
        decision = self.world.reconcile(dies_before=dies_before)
        running = [step for step, _ in self.world.running()]
        assert len(running) <= 1, f"two attempts at once: {running}"
        if decision.promote:
            status = decision.status
            assert status.evaluation.verdict is Verdict.PASS
            assert status.evaluation.artifact_digest == status.artifact.digest == decision.promote.digest
            live = self.world.endpoint.status.live if self.world.endpoint else None
            if live is not None and live.digest != DIGEST:
                assert status.evaluation.baseline_digest == live.digest
        for create in decision.create:
            assert create.step in self.world.plan.steps

    @precondition(lambda self: self.world.running())
    @rule(
        exit_class=st.sampled_from([c for c in ExitClass if c is not ExitClass.DONE]),
        training_step=st.integers(0, 5),
        kept=st.sampled_from([0, 1 << 20, 1 << 30]),
        with_result=st.booleans(),
    )
    def attempt_ends_badly(self, exit_class, training_step, kept, with_result):
        step, _ = self.world.running()[0]
        if step == "learn":
            self.world.reach(step, training_step)
        else:
            self.world._change(step, state="Running", progress=Progress(kept=kept))
        if with_result:
            self.world.fail(step, exit_class=exit_class)
        else:
            self.world.end(step, exit_class)

    @precondition(lambda self: self.world.running())
    @rule(perplexity=st.one_of(st.none(), st.floats(1, 40)), tokens=st.sampled_from([0, 1000]), right=st.booleans())
    def attempt_succeeds(self, perplexity, tokens, right):
        step, attempt = self.world.running()[0]
        if step != "evaluate":
            self.world.succeed(step)
            return
        live = self.world.endpoint.status.live if self.world.endpoint else None
        evaluation = EvaluationResult(
            number=attempt.number,
            artifact_digest=DIGEST if right else OTHER_DIGEST,
            scored_tokens=tokens,
            baseline_digest=live.digest if live else None,
            baseline_metrics={"perplexity": 10.0} if live else {},
        )
        metrics = {} if perplexity is None else {"perplexity": perplexity}
        self.world.succeed(step, metrics=metrics, evaluation=evaluation)

    @precondition(lambda self: any(step == "learn" for step, _ in self.world.running()))
    @rule(elder=st.booleans(), state=st.sampled_from(["Starting", "Running"]))
    def half_of_an_attempt_finds_no_place(self, elder, state):
        self.world._change("learn", state=state, half_placed=HalfPlaced(self.world.now, 1, 2, elder))

    @precondition(lambda self: self.world.running())
    @rule()
    def attempt_vanishes(self):
        step, attempt = self.world.running()[0]
        self.world.attempts[step].remove(attempt)

    @rule(seconds=st.one_of(st.integers(1, 400), st.integers(3000, 4000)))
    def time_passes(self, seconds):
        self.world.wait(seconds)

    @rule(value=st.booleans())
    def somebody_suspends(self, value):
        suspend(self.world, value)

    @rule(token=st.sampled_from("xyz"))
    def somebody_asks_for_another_judgement(self, token):
        annotate(self.world, **{REEVALUATE_ANNOTATION: token})

    @rule(token=st.sampled_from("xyz"))
    def somebody_asks_for_a_retry(self, token):
        annotate(self.world, **{RETRY_ANNOTATION: token})

    @precondition(lambda self: self.world.endpoint is not None and self.world.endpoint.claim is not None)
    @rule(ok=st.booleans())
    def the_endpoint_acts(self, ok):
        if ok:
            self.world.goes_live(self.world.endpoint.claim.digest)
        else:
            self.world.candidate_fails(self.world.endpoint.claim.digest)

    @precondition(lambda self: self.world.endpoint is not None)
    @rule(version=st.one_of(st.none(), st.just(5)))
    def somebody_rolls_the_endpoint_back_or_lets_it_go_on(self, version):
        self.world.endpoint = replace(self.world.endpoint, rollback_to=version)

    @precondition(lambda self: self.world.endpoint is not None)
    @rule(token=st.sampled_from("xyz"))
    def somebody_asks_the_endpoint_for_a_retry(self, token):
        status = self.world.endpoint.status.model_copy(update={"retry": token})
        self.world.endpoint = replace(self.world.endpoint, status=status)

    @rule(later=st.booleans())
    def another_run_takes_the_endpoint(self, later):
        self.world.goes_live(OTHER_DIGEST, version=5)
        created = "2027-01-01T00:00:00Z" if later else "2025-01-01T00:00:00Z"
        self.world.endpoint = replace(self.world.endpoint, claim=Claim("other", OTHER_DIGEST, created, "u"))

    @invariant()
    def numbers_are_never_used_twice(self):
        for attempts in self.world.attempts.values():
            numbers = [a.number for a in attempts]
            assert numbers == sorted(set(numbers))

    @invariant()
    def the_verdict_is_about_the_artifact(self):
        status = self.world.run.status
        if status and status.evaluation and status.evaluation.verdict is Verdict.PASS:
            assert status.evaluation.artifact_digest == status.artifact.digest

    @invariant()
    def failures_stay_within_the_retries(self):
        for record in self.world.run.status.stages if self.world.run.status else []:
            assert record.failures <= self.world.plan.retries + 1
            assert (record.failures == self.world.plan.retries + 1) <= (record.state is StepState.FAILED)

    @invariant()
    def interruptions_of_a_training_stage_alone_are_soon_a_failure(self):
        for record in self.world.run.status.stages if self.world.run.status else []:
            assert record.stalls < (3 if record.name == "learn" else 10) or record.stalled_since is not None
            assert record.stalled_since is None or (record.name != "learn" and record.stalls)

    def teardown(self):
        """F: once the world holds still, so does the lifecycle, and a quiet pass says and writes nothing."""
        self.world.settle()
        decision = self.world.decide()
        assert decision.status == self.world.run.status
        assert (decision.create, decision.delete, decision.promote, decision.events) == ((), (), None, ())


TestRandomWorld = RandomWorld.TestCase
TestRandomWorld.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestRandomWorld.__doc__ = "Invariants A, B and F hold in a random world."


def test_G_new_settings_of_the_live_model_are_a_rollout_until_the_endpoint_has_taken_them_up():
    world = World(a_run())
    world.through(*ALL)
    world.goes_live()
    world.settle()
    assert world.phase is Phase.SERVING
    world.endpoint = replace(world.endpoint, current=False)
    world.settle()
    assert world.phase is Phase.ROLLING_OUT
    assert world.condition("Live").status == "True"
