"""A: a record of a verdict that somebody made lets no model go live: a key that is trusted must have signed it."""

import pytest
from tests.unit.operator.served_world import NAME, NAMESPACE, ServedWorld, digest

from slipway_operator import names
from slipway_operator.kube import kinds


def test_A_a_verdict_that_somebody_else_wrote_starts_no_version():
    world = ServedWorld()
    world.vouched("a")
    world.serve("a")
    world.settle()
    assert (world.deployed(), world.candidate) == ([], None)
    assert world.condition("Judged")["reason"] == "NoPassingVerdict"
    world.judged("a", "Fail")
    world.settle()
    assert world.deployed() == []
    world.judged("a")
    world.settle()
    assert world.deployed() == [], "a release that signs none is the only one that would take that"
    world.signed("a")
    world.settle()
    assert world.deployed() == [1]


def test_A_a_run_that_passed_needs_its_record_too():
    world = ServedWorld()
    world.judged("a")
    world.serve("a")
    world.settle()
    assert world.deployed() == []


def test_B_what_was_live_as_a_model_that_passed_stays_so_when_its_run_is_gone():
    world = ServedWorld()
    world.passes("a", "b")
    world.serve("a")
    world.goes_live(1)
    world.serve("b")
    world.goes_live(2)
    for model in "ab":
        world.cluster.remove(kinds.TRAINING_RUN, NAMESPACE, f"run-{model}")
    world.start_operator()
    world.serve("b", rollbackTo=1)
    world.goes_live(3)
    assert world.status["live"]["digest"] == digest("a")


def test_A_a_model_that_was_accepted_unjudged_is_proof_of_no_verdict():
    world = ServedWorld()
    world.serve("a", unjudged=True)
    world.goes_live(1)
    world.vouched("a")
    world.serve("a", limits={"maxQueue": 1})
    world.settle()
    assert (world.deployed(), world.candidate) == ([1], None)


def test_a_copy_of_a_deployment_under_another_name_is_no_version():
    world = ServedWorld()
    world.passes("a")
    world.serve("a")
    world.goes_live(1)
    copy = world.deployment(1)
    copy["metadata"] |= {"name": "copy", "uid": "theirs", "resourceVersion": "0"}
    copy["spec"]["replicas"] = 0
    world.cluster.put(copy)
    world.settle()
    assert (world.status["phase"], world.live) == ("Serving", 1)
    assert world.cluster.one(kinds.DEPLOYMENT, "copy")["spec"]["replicas"] == 0


@pytest.mark.parametrize("scaling", [None, {"minReplicas": 1, "maxReplicas": 3}])
def test_a_version_that_a_release_without_prefixes_made_goes_on_under_its_name(scaling):
    world = ServedWorld()
    world.passes("a")
    spec = {"autoscaling": scaling} if scaling else {}
    world.serve("a", **spec)
    world.goes_live(1)
    older = world.deployment(1)
    world.cluster.remove(kinds.DEPLOYMENT, NAMESPACE, older["metadata"]["name"])
    older["metadata"] |= {"name": "chat-v1", "uid": "older", "resourceVersion": "0"}
    world.cluster.put(older)
    world.start_operator()
    world.settle()
    assert [one["metadata"]["name"] for one in world.cluster.all(kinds.DEPLOYMENT)] == ["chat-v1"]
    assert (world.live, world.route, world.status["phase"]) == (1, 1, "Serving")
    if scaling:
        assert world.cluster.one(kinds.HPA, NAME)["spec"]["scaleTargetRef"]["name"] == "chat-v1"
    assert names.version(NAME, 1) == "slipway-serve-chat-v1"


def test_a_model_that_the_endpoint_was_told_while_it_was_held_back_goes_live_when_its_run_is_gone():
    world = ServedWorld()
    world.passes("a", "b")
    world.serve("a")
    world.goes_live(1)
    world.serve("b", rollbackTo=1)
    world.settle()
    assert world.status["passed"] == digest("b")
    world.cluster.remove(kinds.TRAINING_RUN, NAMESPACE, "run-b")
    world.start_operator()
    world.serve("b", rollbackTo=None)
    world.settle()
    assert world.status["candidate"]["digest"] == digest("b")
