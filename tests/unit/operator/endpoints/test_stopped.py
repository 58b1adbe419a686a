"""An endpoint that is stopped (`replicas: 0`) gives all of its pods back, and is resumed with the same version."""

from tests.unit.operator.served_world import ServedWorld, digest

from slipway_operator.kube import kinds


def test_nothing_runs_of_an_endpoint_that_is_stopped_in_the_probation_and_the_same_version_comes_back():
    world = ServedWorld()
    world.passes("a", "b")
    world.serve("a")
    world.goes_live()
    world.serve("b")
    world.settle()
    world.becomes_ready(2)
    world.answers(2)
    world.settle()
    assert (world.live, world.deployed()) == (2, [1, 2])

    world.serve("b", replicas=0)
    world.settle()
    world.pods_are_gone(1)
    world.pods_are_gone(2)
    world.settle()
    assert (world.deployed(), world.deployment(2)["spec"]["replicas"]) == ([2], 0)

    world.serve("b")
    world.settle()
    assert world.deployment(2)["spec"]["replicas"] == 1
    assert world.live == 2
    world.becomes_ready(2)
    world.settle()
    assert (world.status["phase"], world.status["live"]["digest"], world.route) == ("Serving", digest("b"), 2)
    told = [event["reason"] for event in world.cluster.all(kinds.EVENT)]
    assert "RolledBack" not in told


def test_an_endpoint_that_is_stopped_says_so_and_warns_of_nothing():
    world = ServedWorld()
    world.passes("a")
    world.serve("a")
    world.goes_live()
    before = [event["reason"] for event in world.cluster.all(kinds.EVENT)]
    world.serve("a", replicas=0)
    world.settle()
    assert world.status["phase"] == "Stopped"
    assert (world.condition("Ready")["status"], world.condition("Ready")["reason"]) == ("False", "Stopped")
    assert [event["reason"] for event in world.cluster.all(kinds.EVENT)] == before
