"""A version gets traffic when it is the model that was judged, or when somebody accepts that nobody knows (A)."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.unit.core.endpoint_world import EndpointWorld, a_record, an_endpoint, digest

FAILED = (
    "ParityFailed: this is not the model that was judged: chat-turns, token 3: the id is 4, and 5 in the evaluation"
)


def live_with_a_record() -> EndpointWorld:
    world = EndpointWorld(an_endpoint("a"))
    world.goes_live()
    return world


def of_an_earlier_release() -> EndpointWorld:
    """Its status has a live version that was made before there were records, and no run left one of it."""
    world = live_with_a_record()
    live = world.status.live
    assert live is not None
    status = world.status.model_copy(update={"live": live.model_copy(update={"parity": None})})
    world.endpoint = world.endpoint.model_copy(update={"status": status})
    world.without_record = {digest("a"), digest("b")}
    world.settle()
    return world


def test_a_version_is_told_the_record_of_its_model_and_goes_live_when_it_compared_itself():
    world = EndpointWorld(an_endpoint("a"))
    world.settle()
    candidate = world.status.candidate
    assert candidate is not None
    assert candidate.parity == a_record(digest("a"))
    world.answers(1)
    world.settle()
    assert world.live == 1
    assert world.condition("ParityUnknown") is None
    assert world.condition("ParityFailed") is None


def test_A_a_candidate_that_is_another_model_gets_no_traffic_and_the_condition_has_the_first_place():
    world = live_with_a_record()
    world.ask_for("b")
    world.settle()
    world.crashes(2, FAILED)
    world.settle()
    assert (world.live, world.route, world.remembered(2).state) == (1, 1, "Failed")
    said = world.condition("ParityFailed")
    assert (said.status, said.reason) == ("True", "AnotherModel")
    assert "chat-turns, token 3: the id is 4, and 5 in the evaluation" in said.message
    world.ask_for("a")
    world.settle()
    world.ask_for("c")
    world.passed.add(digest("c"))
    world.goes_live()
    assert world.condition("ParityFailed") is None


def test_A_a_candidate_that_answers_and_says_that_it_is_another_model_gets_no_traffic():
    world = live_with_a_record()
    world.ask_for("b")
    world.settle()
    world.answers(2, parity=False)
    world.settle()
    assert (world.live, world.remembered(2).state) == (1, "Failed")
    assert world.condition("ParityFailed").status == "True"
    world.passed.add(digest("c"))
    world.ask_for("c")
    world.settle()
    assert (world.candidate, world.condition("ParityFailed")) == (3, None), "another one is on its way"


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (None, "ParityFailed: it is not the model that was judged"),
        ("token 3: the id is 4", "ParityFailed: token 3: the id is 4"),
    ],
)
def test_A_of_a_candidate_that_is_another_model_it_tells_what_its_server_said(said, told):
    world = live_with_a_record()
    world.ask_for("b")
    world.settle()
    world.answers(2, parity=False)
    world.versions[2] = replace(world.versions[2], message=said)
    world.settle()
    assert world.remembered(2).message == told
    assert world.condition("ParityFailed").message == f"version 2: {told}"


def test_a_version_without_a_record_hides_none_that_an_older_one_of_the_model_had():
    world = live_with_a_record()
    world.ask_for("a", limits={"maxQueue": 9})
    world.goes_live()
    live = world.status.live
    assert live is not None
    assert world.remembered(1).parity == a_record(digest("a"))
    status = world.status.model_copy(update={"live": live.model_copy(update={"parity": None})})
    world.endpoint = world.endpoint.model_copy(update={"status": status})
    world.without_record = {digest("a")}
    world.ask_for("a", limits={"maxQueue": 8})
    world.settle()
    candidate = world.status.candidate
    assert candidate is not None
    assert candidate.parity == a_record(digest("a"))


def test_A_a_model_whose_evaluation_left_no_record_starts_only_when_that_is_accepted():
    world = EndpointWorld(an_endpoint("a"), without_record={digest("a")})
    world.settle()
    assert (world.candidate, world.started) == (None, [])
    assert world.condition("Judged").reason == "Passed"
    said = world.condition("ParityUnknown")
    assert (said.status, said.reason) == ("True", "NoRecord")
    assert "model.acceptUnjudged" in said.message
    world.ask_for("a", accept_unjudged=True)
    world.goes_live()
    said = world.condition("ParityUnknown")
    assert (said.status, said.reason) == ("True", "Unproven"), "it is shown for as long as it is live"


def test_a_record_that_comes_later_is_taken_and_nothing_is_unknown_any_more():
    world = EndpointWorld(an_endpoint("a"), without_record={digest("a")})
    world.settle()
    assert world.condition("ParityUnknown").reason == "NoRecord"
    world.without_record = set()
    world.goes_live()
    assert (world.live, world.condition("ParityUnknown")) == (1, None)


def test_A_a_candidate_that_knows_nothing_gets_no_traffic_while_the_spec_names_no_model():
    world = live_with_a_record()
    world.ask_for("b")
    world.settle()
    world.ask_for(None)
    world.answers(2, parity=None)
    world.settle()
    assert (world.live, world.candidate, world.remembered(2).state) == (1, None, "Failed")


def test_A_that_another_model_is_accepted_gives_a_candidate_that_knows_nothing_no_traffic():
    """Whoever names a version that there is not leaves the candidate on its way, whatever model the spec has."""
    world = live_with_a_record()
    world.ask_for("b")
    world.settle()
    world.ask_for("c", accept_unjudged=True, rollbackTo=99)
    world.answers(2, parity=None)
    world.settle()
    assert (world.live, world.candidate, world.remembered(2).state) == (1, None, "Failed")


def test_B_other_settings_of_a_live_model_whose_server_compares_nothing_go_live():
    world = live_with_a_record()
    world.ask_for("a", limits={"maxQueue": 9})
    world.settle()
    world.answers(2, parity=None)
    world.settle()
    assert world.live == 2
    assert world.condition("ParityUnknown").reason == "Unproven"
    world.without_record = {digest("a")}
    world.ask_for("a", limits={"maxQueue": 8})
    world.settle()
    candidate = world.status.candidate
    assert candidate is not None
    assert candidate.parity == a_record(digest("a")), "the version before had it"


def test_A_a_candidate_that_does_not_know_gets_no_traffic_until_that_is_accepted():
    world = live_with_a_record()
    world.ask_for("b")
    world.settle()
    world.answers(2, parity=None)
    world.settle()
    assert (world.live, world.candidate, world.remembered(2).state) == (1, None, "Failed")
    said = world.condition("ParityUnknown")
    assert said.reason == "NotCompared"
    assert f"{a_record(digest('b')).uri}: its log says why" in said.message
    world.ask_for("b", accept_unjudged=True)
    world.settle()
    assert world.candidate == 3, "it is tried again without being asked to"
    world.answers(3, parity=None)
    world.settle()
    assert world.live == 3
    assert world.condition("ParityUnknown").reason == "Unproven"


def test_the_condition_says_where_the_record_should_be_and_what_the_server_found_there():
    world = live_with_a_record()
    world.ask_for("b")
    world.settle()
    world.answers(2, parity=None, unknown="there is a folder in its place")
    world.settle()
    said = world.condition("ParityUnknown").message
    assert f"{a_record(digest('b')).uri}: there is a folder in its place; mend that" in said
    assert "log" not in said, "which is gone with the version"


def test_an_endpoint_without_a_live_version_says_what_the_last_one_failed_of():
    world = EndpointWorld(an_endpoint("a"))
    world.settle()
    assert world.condition("Ready").message == "no version is live"
    world.crashes(1, "/model/model.safetensors: damaged")
    world.settle()
    assert world.condition("Ready").message == "no version is live: version 1 failed: /model/model.safetensors: damaged"
    world.passed.add(digest("b"))
    world.ask_for("b")
    world.settle()
    assert world.condition("Ready").message == "no version is live", "another one is on its way"


def test_a_model_that_failed_for_another_reason_is_not_tried_again_for_being_accepted():
    world = live_with_a_record()
    world.ask_for("b")
    world.settle()
    world.crashes(2)
    world.settle()
    world.passed.add(digest("c"))
    world.ask_for("c")
    world.settle()
    world.answers(3, parity=None)
    world.settle()
    assert world.condition("ParityUnknown").reason == "NotCompared"
    world.ask_for("b", accept_unjudged=True)
    world.settle()
    assert (world.live, world.candidate, world.started) == (1, None, [1, 2, 3])


def test_B_an_upgrade_takes_no_live_version_away_and_lets_its_settings_change():
    world = of_an_earlier_release()
    assert world.condition("ParityUnknown").reason == "Unproven"
    world.ask_for("a", limits={"maxQueue": 9})
    world.settle()
    assert world.candidate == 2
    world.answers(2, parity=None)
    world.settle()
    assert world.live == 2


def test_A_after_an_upgrade_another_model_without_a_record_does_not_follow():
    world = of_an_earlier_release()
    world.ask_for("b")
    world.settle()
    assert (world.live, world.candidate) == (1, None)
    assert world.condition("ParityUnknown").reason == "NoRecord"


def test_B_a_candidate_that_is_on_its_way_during_the_upgrade_goes_on():
    world = EndpointWorld(an_endpoint("a"))
    world.settle()
    candidate = world.status.candidate
    assert candidate is not None
    status = world.status.model_copy(update={"candidate": candidate.model_copy(update={"parity": None})})
    world.endpoint = world.endpoint.model_copy(update={"status": status})
    world.without_record = {digest("a")}
    world.answers(1, parity=None)
    world.settle()
    assert world.live == 1


def test_A_a_model_without_a_record_does_not_follow_a_candidate_of_another_model():
    world = live_with_a_record()
    world.ask_for("b")
    world.settle()
    assert world.candidate == 2
    world.passed.add(digest("c"))
    world.without_record = {digest("c")}
    world.ask_for("c")
    world.settle()
    assert (world.live, world.candidate, world.started) == (1, None, [1, 2])
    assert world.condition("ParityUnknown").reason == "NoRecord"


def test_B_a_live_version_whose_server_becomes_another_model_says_so():
    world = live_with_a_record()
    world.crashes(1, FAILED)
    world.reconcile()
    assert world.live == 1
    assert "token 3" in world.condition("ParityFailed").message
    world.answers(1)
    world.settle()
    assert world.condition("ParityFailed") is None


def test_a_rollback_goes_by_the_record_that_the_version_had():
    world = live_with_a_record()
    world.ask_for("b")
    world.goes_live()
    world.without_record = {digest("a")}
    world.ask_for("b", rollbackTo=1)
    world.settle()
    candidate = world.status.candidate
    assert candidate is not None
    assert (candidate.digest, candidate.parity) == (digest("a"), a_record(digest("a")))
