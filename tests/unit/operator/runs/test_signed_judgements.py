"""A: every judgement of a run is signed and kept, and without a key to sign with nothing is promoted."""

from __future__ import annotations

import pytest
from tests.unit.core.statements import OTHER_KEY
from tests.unit.operator.run_world import DIGEST, RunWorld

from slipway_core.protocol import trust
from slipway_core.protocol.signing import SigningKey
from slipway_core.protocol.trust import Held, TrustedKey
from slipway_core.resources.conditions import timestamp
from slipway_core.resources.status import Verdict
from slipway_operator import names
from slipway_operator.kube import kinds
from slipway_operator.kube.errors import Forbidden
from slipway_operator.manifests.signing_key import signing_secret
from slipway_operator.settings import Signing

PLACE = Signing()


def own_key(world: RunWorld) -> TrustedKey:
    record = world.cluster.one(kinds.CONFIG_MAP, PLACE.keys, PLACE.namespace)
    own = trust.keys_of(record["data"]["own.json"])[0]
    return own


def held(world: RunWorld, *keys: TrustedKey) -> list[Held]:
    return [trust.open_statement(one["data"]["statement"], keys or [own_key(world)]) for one in world.judgements()]


def a_judged_world(perplexity: float = 10.0) -> RunWorld:
    world = RunWorld()
    world.train()
    world.evaluate(perplexity)
    return world


def loses_the_key(world: RunWorld) -> dict:
    secret = world.cluster.one(kinds.SECRET, PLACE.secret, PLACE.namespace)
    world.cluster.remove(kinds.SECRET, PLACE.namespace, PLACE.secret)
    return secret


def told_to_serve(world: RunWorld) -> bool:
    return bool(world.cluster.all(kinds.MODEL_ENDPOINT))


@pytest.mark.parametrize(("perplexity", "verdict"), [(10.0, Verdict.PASS), (90.0, Verdict.FAIL)])
def test_A_a_judgement_is_signed_whatever_it_says(perplexity: float, verdict: Verdict):
    world = a_judged_world(perplexity)
    (found,) = held(world)
    judged = found.statement.predicate
    assert (found.statement.digest, judged.verdict, judged.evaluation) == (DIGEST, verdict, 1)
    assert (judged.run.name, judged.run.uid, judged.run.namespace) == ("demo", world.uid, "default")
    assert judged.plan == world.run["status"]["planDigest"]
    assert judged.judged_at == world.record("evaluate")["finishedAt"]
    assert told_to_serve(world) is (verdict is Verdict.PASS)


def test_a_judgement_that_could_not_be_made_is_one_too():
    world = RunWorld()
    world.train()
    world.end("evaluate", result="Segmentation fault")
    world.settle()
    world.annotate(reevaluate="1")
    world.settle()
    world.evaluate()
    found = [one.statement.predicate for one in held(world)]
    assert [(one.evaluation, one.verdict) for one in found] == [(1, Verdict.INCONCLUSIVE), (2, Verdict.PASS)]


def test_F_a_pass_that_changes_nothing_signs_nothing():
    world = a_judged_world()
    world.serve()
    writes = len(world.cluster.writes)
    world.reconcile()
    world.start_operator()
    world.settle()
    assert world.cluster.writes[writes:] == []


def test_F_a_later_release_leaves_what_an_earlier_one_signed(monkeypatch: pytest.MonkeyPatch):
    """Nothing is lost in between, and it goes on to say which release has judged."""
    world = a_judged_world()
    before = world.judgements()
    writes = len(world.cluster.writes)
    monkeypatch.setattr("slipway_core.__version__", "9.9.9")
    world.start_operator()
    world.settle()
    assert world.judgements() == before
    assert [one for one in world.cluster.writes[writes:] if one.kind == "ConfigMap"] == []


def test_A_one_that_somebody_removed_is_signed_again_the_same():
    world = a_judged_world()
    (before,) = world.judgements()
    world.cluster.remove(kinds.CONFIG_MAP, "default", before["metadata"]["name"])
    world.start_operator()
    world.persist()
    (after,) = world.judgements()
    assert after["data"] == before["data"]


@pytest.mark.parametrize("name", ["statement", "label"])
def test_A_one_that_somebody_changed_is_put_right(name: str):
    world = a_judged_world()
    (record,) = world.judgements()
    if name == "statement":
        record["data"]["statement"] = record["data"]["statement"].replace("ey", "eY", 1)
    else:
        record["metadata"]["labels"][names.ROLE] = "plan"
    world.cluster.put(record)
    world.persist()
    assert [one.statement.digest for one in held(world)] == [DIGEST]
    assert world.judgements()[0]["metadata"]["labels"][names.ROLE] == "verdict"


def test_A_a_run_that_was_judged_before_verdicts_were_signed_is_signed_by_its_status():
    world = a_judged_world()
    world.serve()
    assert world.phase == "Serving"
    (record,) = world.judgements()
    world.cluster.remove(kinds.CONFIG_MAP, "default", record["metadata"]["name"])
    loses_the_key(world)
    world.cluster.remove(kinds.CONFIG_MAP, PLACE.namespace, PLACE.keys)
    world.start_operator()
    world.settle()
    (found,) = held(world)
    assert found.passed
    assert world.phase == "Serving"


# ---------------------------------------------------------------------------------------------------- a lost key


def a_world_whose_key_is_lost() -> tuple[RunWorld, dict]:
    """One run was judged and its key is gone; another one is about to be judged."""
    world = a_judged_world()
    world.serve()
    secret = loses_the_key(world)
    other = RunWorld(name="second", cluster=world.cluster)
    other.now = world.now
    other.train()
    other.evaluate()
    return other, secret


def test_A_without_its_key_a_model_that_passed_is_not_promoted_and_the_run_says_why():
    world, secret = a_world_whose_key_is_lost()
    before = world.cluster.one(kinds.MODEL_ENDPOINT, "chat")
    refused = world.condition("Refused")
    assert refused["reason"] == "SigningKeyLost"
    assert "put it back from a backup" in refused["message"]
    assert "cannot be told to serve" in world.condition("Live")["message"]
    assert world.run["status"]["evaluation"]["verdict"] == "Pass", "what was judged is recorded"
    assert world.cluster.one(kinds.MODEL_ENDPOINT, "chat") == before, "B: what is live stays as it is"
    assert len(world.judgements()) == 1
    world.cluster.put(secret)
    world.persist()
    assert len(world.judgements()) == 2
    assert world.condition("Refused") is None
    assert world.cluster.one(kinds.MODEL_ENDPOINT, "chat")["spec"]["model"]["run"] == "second"


def test_A_a_new_key_signs_once_the_chart_says_that_the_lost_one_is_over():
    world, _ = a_world_whose_key_is_lost()
    lost = own_key(world)
    retired = lost.model_copy(update={"not_after": timestamp(world.now)})
    world.now = world.now.replace(hour=13)
    world.settings = world.settings.model_copy(update={"trusted_keys": (retired,)})
    world.start_operator()
    world.persist()
    new = own_key(world)
    assert new.id != lost.id
    assert [one.key.id for one in held(world, retired, new)] == [lost.id, new.id]


def test_A_what_a_retired_key_signed_is_signed_anew_while_its_run_is_at_work():
    world = a_judged_world()
    retired = own_key(world).model_copy(update={"not_after": timestamp(world.now)})
    loses_the_key(world)
    world.now = world.now.replace(hour=13)
    world.settings = world.settings.model_copy(update={"trusted_keys": (retired,)})
    world.start_operator()
    world.persist()
    assert [one.key.id for one in held(world, own_key(world))] == [own_key(world).id]


@pytest.mark.parametrize("gone", [True, False])
def test_B_what_a_retired_key_signed_stays_there_while_there_is_no_other_key(gone: bool):
    """A version that it let through may have to be made again."""
    world = a_judged_world()
    (before,) = world.judgements()
    own = own_key(world)
    if gone:
        loses_the_key(world)
    over = own.model_copy(update={"not_after": "2026-01-01T12:30:00Z"})
    world.cluster.fail_next("create", kinds.SECRET, Forbidden("secrets is forbidden"))
    world.now = world.now.replace(hour=13)
    world.settings = world.settings.model_copy(update={"trusted_keys": (over,)})
    world.start_operator()
    world.reconcile()
    assert world.judgements() == [before]
    assert world.condition("Refused")["reason"] == ("Forbidden" if gone else "SigningKeyUnusable")


def test_A_what_a_revoked_key_signed_stays_so_until_somebody_removes_it():
    world = a_judged_world()
    revoked = own_key(world).model_copy(update={"revoked": True})
    loses_the_key(world)
    world.cluster.put(signing_secret(SigningKey(OTHER_KEY.seed), PLACE))
    world.settings = world.settings.model_copy(update={"trusted_keys": (revoked,)})
    world.start_operator()
    world.persist()
    (record,) = world.judgements()
    assert record["metadata"]["labels"][names.SIGNED_BY] == revoked.id
    world.cluster.remove(kinds.CONFIG_MAP, "default", record["metadata"]["name"])
    world.persist()
    assert [one.key.id for one in held(world, TrustedKey.of(OTHER_KEY.public))] == [OTHER_KEY.public.id]
