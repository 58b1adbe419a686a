"""The statement that an executor signs says what the record says, and nothing about another attempt."""

from __future__ import annotations

import hashlib

import pytest
from tests.unit.core.runs import DIGEST, a_run
from tests.unit.core.world import World

import slipway_core
from slipway_core.lifecycle.judgement import judgement_statement
from slipway_core.protocol.statement import Statement, canonical
from slipway_core.protocol.step_result import EvaluationResult
from slipway_core.resources.required_gates import PassedGate
from slipway_core.resources.status import JudgeStatus, Verdict
from slipway_core.rollout.judged import judged_by
from slipway_core.rollout.observed import Judged


def _judged(**result) -> World:
    world = World(a_run())
    world.settle()
    world.succeed("prepare", held_out_sketch="00000000000000ab")
    world.through("learn", "export")
    world.wait(90)
    world.succeed("evaluate", **result)
    world.settle()
    return world


def _asking(told: JudgeStatus | None, **fields) -> World:
    """A run with a judge model, as its evaluation told of it."""
    judge = {"url": "http://judge:8000/v1", "model": "large", "criteria": "Be kind.", "repeats": 2, **fields}
    asked = {"prompts": [{"uri": "file://prompts.jsonl"}], "judge": judge}
    gates = [{"metric": "perplexity", "max": 20}, {"metric": "judge_score", "min": 0.5}]
    world = World(a_run(gates=gates, evaluation=asked))
    world.through("prepare", "learn", "export")
    result = EvaluationResult(number=1, artifact_digest=DIGEST, scored_tokens=1000, judge=told)
    world.succeed("evaluate", evaluation=result, metrics={"perplexity": 10.0, "judge_score": 0.75})
    world.settle()
    return world


def _statement(world: World, **known) -> Statement:
    assert world.run.status
    found = judgement_statement(world.plan, world.run.status, **known)
    assert found
    return found


def test_it_says_what_the_record_says() -> None:
    world = _judged()
    found = _statement(world, training={"learn/train": "sha256:1"})
    said = found.predicate
    assert found.digest == DIGEST
    assert (said.run.name, said.run.uid, said.plan) == ("demo", world.plan.run.uid, world.plan.digest)
    assert (said.verdict, said.evaluation, said.judged_at) == (Verdict.PASS, 1, "2026-01-01T12:01:30Z")
    assert [(g.metric, g.threshold, g.value, g.upper, g.clusters) for g in said.gates] == [
        ("perplexity", "<= 20", 10.0, 10.0, 40)
    ]
    assert (said.data.training, said.data.sketch) == ({"learn/train": "sha256:1"}, ["00000000000000ab"])
    assert said.endpoint == (world.plan.serving.endpoint if world.plan.serving else None)
    assert said.versions == {"slipway": slipway_core.__version__}


def test_it_names_what_each_stage_learned_from_as_prepare_made_it() -> None:
    made = {"learn/train": "sha256:" + "7" * 64, "learn/validation": "sha256:" + "8" * 64}
    world = World(a_run())
    world.settle()
    world.succeed("prepare", training_data=made)
    world.through("learn", "export", "evaluate")
    assert _statement(world).predicate.data.training == made
    assert _statement(world, training={"learn/train": "sha256:1"}).predicate.data.training == made


def test_A_it_says_that_the_code_of_the_model_itself_ran_and_then_it_answers_no_required_gate() -> None:
    world = World(a_run(model={"from": "pvc://models/own", "trustRemoteCode": True}))
    world.through("prepare", "learn", "export", "evaluate")
    said = _statement(world)
    assert said.predicate.remote_code is True
    found = judged_by([said])
    assert (found.gates, found.remote_code) == ((), True)
    plain = _statement(_judged())
    assert "remoteCode" not in plain.predicate.to_document(), "the bytes of all others are what they were"
    assert judged_by([plain, said]).gates == judged_by([plain]).gates != ()


def test_whoever_makes_it_later_makes_the_same() -> None:
    world = _judged()
    before = _statement(world)
    world.wait(3600)
    world.settle()
    assert _statement(world) == before


def test_a_failed_judgement_and_one_without_figures_are_statements_too() -> None:
    assert _statement(_judged(metrics={"perplexity": 99.0})).predicate.verdict is Verdict.FAIL
    crashed = _statement(_judged(evaluation=None)).predicate
    assert (crashed.verdict, crashed.gates) == (Verdict.INCONCLUSIVE, [])
    assert crashed.reason == "the evaluation reported nothing"


def test_there_is_none_before_the_judgement_and_while_it_is_made_anew() -> None:
    world = World(a_run())
    world.through("prepare", "learn", "export")
    assert world.run.status
    assert judgement_statement(world.plan, world.run.status) is None
    judged = _judged().run.status
    assert judged
    step = judged.step("evaluate")
    assert step
    again = judged.model_copy(update={"stages": [*judged.stages[:-1], step.model_copy(update={"attempt": 2})]})
    assert judgement_statement(world.plan, again) is None


def test_there_is_none_of_a_record_that_names_no_model_or_no_time() -> None:
    """A hand may have written it."""
    world = _judged()
    status = world.run.status
    assert status
    assert status.evaluation
    step = status.step("evaluate")
    assert step
    unnamed = status.evaluation.model_copy(update={"artifact_digest": None})
    others = [one for one in status.stages if one.name != "evaluate"]
    for change in (
        {"evaluation": None},
        {"evaluation": unnamed},
        {"stages": others},
        {"stages": [*others, step.model_copy(update={"finished_at": None})]},
    ):
        assert judgement_statement(world.plan, status.model_copy(update=change)) is None
    assert judgement_statement(world.plan, status) is not None


def test_it_names_the_image_that_judged_by_the_record_and_by_the_plan_where_that_is_older() -> None:
    world = _judged()
    status = world.run.status
    assert status
    assert "image" not in _statement(world).predicate.versions, "of a run on one machine"
    recorded = status.model_copy(update={"train_image": "registry/train@sha256:1"})
    planned = world.plan.model_copy(update={"images": world.plan.images.model_copy(update={"train": "registry/old"})})
    for plan, record, image in (
        (planned, recorded, "registry/train@sha256:1"),
        (world.plan, recorded, "registry/train@sha256:1"),
        (planned, status, "registry/old"),
    ):
        said = judgement_statement(plan, record)
        assert said
        assert said.predicate.versions["image"] == image


def test_a_judge_that_nobody_asked_for_is_not_named() -> None:
    """What an evaluation says may come from whoever writes in the workspace."""
    told = EvaluationResult(number=1, artifact_digest=DIGEST, scored_tokens=1000, judge=JudgeStatus(orders=1.0))
    assert _statement(_judged(evaluation=told)).predicate.judge is None


def test_A_the_data_of_each_gate_is_that_which_prepare_told_of() -> None:
    """The record has it from prepare: the evaluation says nothing of it that would be believed."""
    digests = ["sha256:" + "1" * 64, "sha256:" + "2" * 64]
    held, gates = "sha256:" + "3" * 64, [{"metric": "perplexity", "max": 20}, {"metric": "perplexity", "max": 30}]
    for upon, told, expected in (
        (held, digests, digests),
        (held, [], [None, None]),  # An earlier release prepared it.
        (held, digests[:1], [None, None]),
        (None, digests, [None, None]),
        ("sha256:" + "4" * 64, digests, []),
    ):
        world = World(a_run(gates=gates))
        world.settle()
        world.succeed("prepare", held_out_digest=None if upon is None else held, gate_data=told)
        world.through("learn", "export")
        evaluation = EvaluationResult(number=1, artifact_digest=DIGEST, scored_tokens=1000, data_digest=upon)
        world.succeed("evaluate", evaluation=evaluation)
        world.settle()
        said = _statement(world)
        assert [one.data for one in said.predicate.gates] == expected
        assert [one.data for one in judged_by([said]).gates] == expected


def test_A_what_a_model_passed_is_in_the_statement_to_the_last_digit() -> None:
    passed = _judged()
    said = _statement(passed)
    gates = tuple(PassedGate(gate) for gate in passed.plan.evaluation.gates)
    judged = Judged("demo", 1, gates, passed.plan.run.uid)
    assert judged_by([said]) == judged
    failed = _statement(_judged(metrics={"perplexity": 99.0}))
    assert judged_by([failed]) == Judged()
    assert judged_by([failed, said, failed]) == judged


def test_A_what_a_model_passed_in_several_judgements_counts_together_and_the_newest_names_the_run() -> None:
    one, two = _statement(_judged()), _statement(_judged())
    run = two.predicate.run.model_copy(update={"name": "later", "uid": "another"})
    two = two.model_copy(update={"predicate": two.predicate.model_copy(update={"run": run, "evaluation": 3})})
    found = judged_by([one, two])
    assert (found.run, found.run_uid, found.evaluation) == ("later", "another", 3)
    assert found.gates == (*judged_by([one]).gates, *judged_by([two]).gates)
    assert judged_by([]) == Judged()


def test_it_says_who_judged() -> None:
    said = _statement(_asking(JudgeStatus(orders=0.875, repeats=0.95))).predicate.judge
    assert said
    assert (said.model, said.url, said.compare, said.repeats) == ("large", "http://judge:8000/v1", None, 2)
    assert said.criteria == f"sha256:{hashlib.sha256(b'Be kind.').hexdigest()}"
    assert (said.agreement.orders, said.agreement.repeats) == (0.875, 0.95)


@pytest.mark.parametrize("url", ["https://judge/v1", "https://judge:443/v1/"])
def test_it_says_no_more_of_an_address_than_where_that_is(url: str) -> None:
    said = _statement(_asking(JudgeStatus(), url=url)).predicate.judge
    assert said
    assert said.url == url


def test_what_a_release_before_judged_has_the_bytes_that_it_had() -> None:
    world = _asking(None)
    assert world.run.status
    assert world.run.status.evaluation
    assert all(b'"judge":' not in canonical(_statement(one)) for one in (world, _judged()))


def test_B_it_says_that_it_says_nothing_of_the_model_where_the_judge_did_not() -> None:
    def said(told: JudgeStatus | None) -> Statement:
        judge = {"url": "http://judge:8000/v1", "model": "large", "criteria": "Be kind."}
        asked = {"prompts": [{"uri": "file://prompts.jsonl"}], "judge": judge}
        gates = [{"metric": "perplexity", "max": 20}, {"metric": "judge_score", "min": 0.5}]
        world = World(a_run(gates=gates, evaluation=asked))
        world.through("prepare", "learn", "export")
        result = EvaluationResult(number=1, artifact_digest=DIGEST, scored_tokens=1000, judge=told)
        world.succeed("evaluate", evaluation=result, metrics={"perplexity": 10.0})
        world.settle()
        return _statement(world)

    silent, other = said(JudgeStatus(silent=True)), said(JudgeStatus(orders=0.9))
    assert (silent.predicate.verdict, silent.predicate.says_nothing) == (Verdict.INCONCLUSIVE, True)
    assert (other.predicate.verdict, other.predicate.says_nothing) == (Verdict.INCONCLUSIVE, None)
    assert "saysNothing" not in other.predicate.to_document(), "the bytes of all others are what they were"
