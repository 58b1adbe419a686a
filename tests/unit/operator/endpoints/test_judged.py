"""An endpoint counts how often its runs were judged, once each, and remembers those that are gone."""

from tests.unit.operator.served_world import NAME, NAMESPACE, ServedWorld, digest

from slipway_core.protocol.sketch import sketch_of
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
