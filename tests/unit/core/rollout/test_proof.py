"""What signed verdicts, retired keys and revoked ones do to the versions of an endpoint."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from tests.unit.core.endpoint_world import EndpointWorld, an_endpoint
from tests.unit.core.statements import DIGEST, KEY, OTHER_DIGEST, TRUSTED, sealed

from slipway_core.protocol.trust import Flaw, standing
from slipway_core.resources.status import EndpointPhase, EndpointStatus, Verdict, VersionStatus
from slipway_core.rollout.observed import Proof
from slipway_core.rollout.proof import prove

NOW = datetime(2026, 11, 30, tzinfo=UTC)
REVOKED = Proof(False, flaw=Flaw.KEY_REVOKED, why="the statement is signed by the key 'old', which is revoked")


def _version(**fields) -> VersionStatus:
    given = {"version": 1, "uri": "file:///model", "digest": DIGEST, "state": "Live", "since": "2026-01-01T00:00:00Z"}
    return VersionStatus(**{**given, **fields})


def _signed_world() -> EndpointWorld:
    """Version 1 with the model `a` is live, by a verdict that the key `old` signed."""
    world = EndpointWorld(an_endpoint("a"), passed=set())
    world.sign("a", Proof(True, signed_by="old"))
    world.goes_live()
    return world


# ------------------------------------------------------------------------------------------ what statements come to


def test_a_a_signed_pass_lets_a_version_start() -> None:
    assert prove(standing([sealed()], DIGEST, TRUSTED), DIGEST, EndpointStatus(), NOW) == Proof(
        True, signed_by=KEY.public.id
    )


def test_a_nothing_said_is_no_pass() -> None:
    found = prove(standing([], DIGEST, TRUSTED), DIGEST, EndpointStatus(), NOW)
    assert (found.passes, found.flaw) == (False, None)


def test_b_a_retired_key_keeps_live_what_is_live_and_starts_nothing_new() -> None:
    keys = [TRUSTED[0].model_copy(update={"not_after": "2026-11-29T12:00:00Z"})]
    stands = standing([sealed()], DIGEST, keys)
    assert prove(stands, DIGEST, EndpointStatus(live=_version()), NOW).passes
    assert prove(stands, DIGEST, EndpointStatus(history=[_version(state="Standby")]), NOW).passes
    other = EndpointStatus(live=_version(digest=OTHER_DIGEST))
    for status in (EndpointStatus(), EndpointStatus(history=[_version(state="Retired")]), other):
        found = prove(stands, DIGEST, status, NOW)
        assert (found.passes, found.flaw) == (False, Flaw.KEY_RETIRED)
        assert "retired at 2026-11-29T12:00:00Z; have a run judge the model again" in found.why


@pytest.mark.parametrize("place", ["live", "candidate", "history"])
def test_what_an_earlier_release_let_through_goes_on(place: str) -> None:
    version = _version()
    status = EndpointStatus(**{place: [version] if place == "history" else version})
    nothing = standing([], DIGEST, TRUSTED)
    assert prove(nothing, DIGEST, status, NOW) == Proof(True)
    assert not prove(standing([], OTHER_DIGEST, TRUSTED), OTHER_DIGEST, status, NOW).passes
    failed = standing([sealed(Verdict.FAIL)], DIGEST, TRUSTED)
    assert not prove(failed, DIGEST, status, NOW).passes, "a statement is newer than what there was before"


@pytest.mark.parametrize("fields", [{"accept_unjudged": True}, {"signed_by": "old"}])
def test_a_what_was_accepted_or_signed_is_not_of_an_earlier_release(fields: dict[str, object]) -> None:
    assert not prove(standing([], DIGEST, TRUSTED), DIGEST, EndpointStatus(live=_version(**fields)), NOW).passes


# ------------------------------------------------------------------------------------------------ in an endpoint


def test_a_version_remembers_who_signed_for_it() -> None:
    world = _signed_world()
    assert world.status.live
    assert world.status.live.signed_by == "old"
    assert world.condition("Judged").message == "the model has a passing verdict, signed by the key old"


def test_one_without_a_signature_is_marked() -> None:
    world = EndpointWorld(an_endpoint("a"))
    world.sign("a", Proof(True))
    world.goes_live()
    judged = world.condition("Judged")
    assert (judged.status, judged.reason) == ("True", "Unsigned")


def test_a_what_does_not_hold_does_not_start_and_says_why() -> None:
    world = EndpointWorld(an_endpoint("a"))
    world.sign("a", Proof(False, flaw=Flaw.BAD_SIGNATURE, why="the signature is not that of the key"))
    world.settle()
    judged = world.condition("Judged")
    assert world.started == []
    assert (judged.status, judged.reason) == ("False", "SignatureWrong")
    assert "the signature is not that of the key" in judged.message
    assert world.events == ["SignatureWrong"], "told once, whoever looks at Events alone"
    world.sign("a", Proof(False, flaw=Flaw.OTHER_NAMESPACE, why="the statement is about a run of another namespace"))
    world.settle()
    assert world.events == ["SignatureWrong", "OtherNamespace"]


def test_of_what_is_live_a_statement_that_does_not_hold_any_more_is_no_event() -> None:
    world = EndpointWorld(an_endpoint("a"))
    world.sign("a", Proof(True, signed_by="key"))
    world.goes_live()
    told = list(world.events)
    world.sign("a", Proof(False, flaw=Flaw.BAD_SIGNATURE, why="the signature is not that of the key"))
    world.settle()
    assert (world.live, world.events) == (1, told)
    assert world.condition("Judged").reason == "SignatureWrong"


def test_b_a_revoked_key_takes_the_traffic_away_and_a_new_judgement_brings_it_back() -> None:
    world = _signed_world()
    world.sign("a", REVOKED)
    world.revoked.add("old")
    said = [event.message for event in world.decide().events if event.reason == "KeyRevoked"]
    assert "version 1 gets no traffic any more: its verdict is signed by the key 'old', which is revoked" in said
    decision = world.settle()
    assert (world.live, world.running()) == (None, set())
    assert world.condition("KeyRevoked").status == "True"
    assert world.condition("Ready").reason == "NoLiveVersion"
    assert "KeyRevoked" in world.events
    assert "'old', which is revoked" in (world.remembered(1).message or "")
    assert decision.status == world.decide().status, "it is decided once"
    world.sign("a", Proof(True, signed_by="new"))
    world.goes_live()
    assert (world.live, world.condition("KeyRevoked"), world.phase) == (2, None, EndpointPhase.SERVING)


def test_b_a_version_by_a_revoked_key_is_told_to_end_though_nothing_of_it_is_seen() -> None:
    world = _signed_world()
    world.executor_restarts()
    world.sign("a", REVOKED)
    world.revoked.add("old")
    decision = world.reconcile()
    assert (decision.stop, decision.start) == ((1,), ())


def test_b_a_version_by_a_revoked_key_of_which_nothing_is_known_any_more_loses_the_traffic() -> None:
    world = _signed_world()
    world.proofs.clear()
    world.passed.clear()
    world.revoked.add("old")
    world.settle()
    assert (world.live, world.running()) == (None, set())


@pytest.mark.parametrize("accepted", [False, True])
def test_a_of_a_model_without_a_statement_no_flaw_is_told(accepted: bool) -> None:
    world = EndpointWorld(an_endpoint("c", accept_unjudged=accepted))
    world.sign("c", Proof(False, why="there is no statement on the model"))
    world.settle()
    judged = world.condition("Judged")
    assert judged.reason == ("AcceptedUnjudged" if accepted else "NoPassingVerdict")
    assert "no statement" not in judged.message
    assert "none that there is counts" not in judged.message


def test_b_a_verdict_by_another_key_keeps_the_traffic() -> None:
    world = _signed_world()
    world.sign("a", Proof(True, signed_by="new"))
    world.revoked.add("old")
    world.settle()
    assert (world.live, world.started) == (1, [1])
    assert world.status.live
    assert world.status.live.signed_by == "new"


def test_b_a_standby_by_a_trusted_key_takes_over() -> None:
    world = _signed_world()
    world.ask_for("b", rollout={"probation": "1h"})
    world.sign("b", Proof(True, signed_by="new"))
    world.settle()
    world.ready(2)
    world.answers(2)
    world.settle()
    assert world.live == 2
    world.revoked.add("new")
    world.sign("b", REVOKED)
    world.settle()
    assert (world.live, world.route, world.running()) == (1, 1, {1})
    assert [(version.version, version.state) for version in world.status.history] == [(2, "Retired")]


def _in_probation(first: str, second: str) -> EndpointWorld:
    """Version 2 with the model `b` is live, and version 1 stands by; two keys signed for them."""
    world = EndpointWorld(an_endpoint("a"), passed=set())
    world.sign("a", Proof(True, signed_by=first))
    world.goes_live()
    world.ask_for("b", rollout={"probation": "1h"})
    world.sign("b", Proof(True, signed_by=second))
    world.settle()
    world.answers(2)
    world.settle()
    assert (world.live, world.remembered(1).state) == (2, "Standby")
    return world


def test_b_of_two_versions_by_a_revoked_key_neither_keeps_the_traffic() -> None:
    world = _in_probation("old", "old")
    world.revoked.add("old")
    for letter in "ab":
        world.sign(letter, REVOKED)
    world.settle()
    assert (world.live, world.running(), world.remembered(1).state) == (None, set(), "Retired")
    world.sign("a", Proof(True, signed_by="new"))
    world.settle()
    assert world.live is None, "it comes back as a new version alone, by the way that all of them go"


def test_b_a_standby_by_a_trusted_key_that_is_not_ready_waits_until_it_is() -> None:
    world = _in_probation("new", "old")
    world.crashes(1)
    world.revoked.add("old")
    world.sign("b", REVOKED)
    world.settle()
    assert (world.live, world.remembered(1).state, world.running()) == (None, "Standby", {1})
    world.ready(1)
    world.settle()
    assert (world.live, world.route) == (1, 1)


def test_a_a_candidate_by_a_revoked_key_is_dropped() -> None:
    world = EndpointWorld(an_endpoint("a"), passed=set())
    world.sign("a", Proof(True, signed_by="old"))
    world.settle()
    assert world.candidate == 1
    world.sign("a", REVOKED)
    world.revoked.add("old")
    world.settle()
    assert (world.candidate, world.running(), world.remembered(1).state) == (None, set(), "Dropped")


def test_what_was_accepted_without_a_verdict_has_no_key_to_lose() -> None:
    world = EndpointWorld(an_endpoint("c", accept_unjudged=True))
    world.goes_live()
    world.sign("c", REVOKED)
    world.revoked.add("old")
    world.settle()
    assert world.live == 1
