"""An endpoint counts how often its runs were judged, once each, and remembers those that are gone."""

from tests.unit.core.statements import OTHER_KEY
from tests.unit.operator.served_world import NAME, NAMESPACE, ServedWorld, digest

from slipway_core.protocol.sketch import hashes_of, sketch_of
from slipway_core.protocol.statement import JudgedData
from slipway_core.resources.status import Verdict
from slipway_operator.kube import kinds

OURS = sketch_of(f"poem {number}" for number in range(40))


def judged(world: ServedWorld, name: str, *, judgements: int | None = None, endpoint: str = NAME, **status) -> None:
    evaluation = {"number": 7, "verdict": "Fail", "artifactDigest": digest("c"), "dataDigest": "sha256:d"}
    if judgements is not None:
        evaluation["judgements"] = judgements
    world.cluster.put(
        {
            "apiVersion": "slipway.dev/v1alpha1",
            "kind": "TrainingRun",
            "metadata": {"name": name},
            "spec": {"serving": {"endpoint": endpoint}},
            "status": {
                "heldOutSketch": OURS,
                "evaluation": evaluation,
                "stages": [{"name": "evaluate", "finishedAt": "2026-01-01T12:00:00Z"}],
                **status,
            },
        }
    )


def test_F_judgements_are_counted_once_by_every_operator_and_stay_when_their_runs_are_gone() -> None:
    world = ServedWorld()
    judged(world, "first", judgements=3)
    judged(world, "of-before-that-was-counted")
    judged(world, "of-another", judgements=5, endpoint="other")
    judged(world, "not-judged", evaluation={})
    world.passes("a")
    world.serve("a")
    world.goes_live(1)
    assert world.status["heldOut"]["judgements"] == 4
    world.start_operator()
    before = len(world.cluster.writes)
    world.settle()
    assert len(world.cluster.writes) == before
    world.cluster.remove(kinds.TRAINING_RUN, NAMESPACE, "first")
    judged(world, "second", judgements=16)
    world.wait(11)
    world.settle()
    assert world.status["heldOut"]["judgements"] == 20
    assert world.condition("HeldOutWorn")["reason"] == "JudgedOften"


def test_a_run_that_is_gone_before_its_endpoint_looked_counts_by_the_statements_that_it_left() -> None:
    world = ServedWorld()
    upon = {"data": JudgedData(held_out="sha256:d", sketch=hashes_of(OURS)), "endpoint": NAME}
    world.passes("a")
    judged(world, "there", judgements=2)
    for number in (1, 2):
        world.signed("b", Verdict.FAIL, run="there", number=number, **upon)
    for number in (1, 2, 3):
        world.wait(60)
        world.signed("c", Verdict.FAIL, run="gone", number=number, **upon)
    world.signed("d", Verdict.FAIL, run="crashed", data=JudgedData(sketch=hashes_of(OURS)), endpoint=NAME)
    world.signed("d", Verdict.FAIL, run="of-another", data=upon["data"], endpoint="other")
    world.signed("d", Verdict.FAIL, run="nobodys", key=OTHER_KEY, **upon)
    world.signed("d", Verdict.FAIL, run="of-a-neighbor", namespace="neighbor", **upon)
    world.cluster.objects[kinds.TRAINING_RUN.kind, NAMESPACE, "there"]["metadata"]["uid"] = "there-0123"
    world.cluster.put(world.cluster.one(kinds.TRAINING_RUN, "there"))
    world.serve("a")
    world.goes_live(1)
    assert world.status["heldOut"]["judgements"] == 5
    assert sorted(one["uid"] for one in world.status["heldOut"]["counted"]) == ["gone-0123", "there-0123"]
    world.start_operator()
    before = len(world.cluster.writes)
    world.settle()
    assert len(world.cluster.writes) == before
    world.signed("c", Verdict.FAIL, run="gone", number=4, **upon)
    world.wait(11)
    world.settle()
    assert world.status["heldOut"]["judgements"] == 6


def test_F_one_more_judgement_waits_for_a_write_that_was_not_long_ago() -> None:
    world = ServedWorld()
    world.passes("a")
    world.serve("a")
    world.goes_live(1)
    judged(world, "first", judgements=1)
    world.settle()
    before = len(world.cluster.writes)
    judged(world, "second", judgements=1)
    again = world.reconcile()
    assert again is not None
    assert 0 < again.total_seconds() <= 10
    assert len(world.cluster.writes) == before
    world.wait(again.total_seconds())
    world.settle()
    assert len(world.cluster.writes) == before + 1
    assert world.status["heldOut"]["judgements"] == 2
