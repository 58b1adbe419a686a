"""A, B: what signed judgements, those that somebody changed, and keys that are over do to an endpoint."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from tests.unit.core.statements import KEY, OTHER_KEY, altered, payload_of, signed_payload, with_payload
from tests.unit.operator.manifests.samples import variables
from tests.unit.operator.served_world import NAME, NAMESPACE, ServedWorld, digest

from slipway_core.protocol import artifact, trust
from slipway_core.protocol.signing import SigningKey
from slipway_core.protocol.statement import AskedOfIt, JudgedGate
from slipway_core.protocol.trust import TrustedKey
from slipway_core.resources.status import Verdict
from slipway_operator import names
from slipway_operator.common import verdict_reader
from slipway_operator.endpoints import standings
from slipway_operator.kube import kinds
from slipway_operator.manifests.signing_key import trusted_keys
from slipway_operator.settings import Settings
from slipway_serving.main import require_statement
from slipway_serving.settings import SettingsError

Manifest = dict[str, Any]
OWN, OTHER = KEY.public.id, OTHER_KEY.public.id
OVER = "2026-01-01T00:00:00Z"


def with_keys(*keys: TrustedKey, world: ServedWorld | None = None) -> ServedWorld:
    """The world with these trustedKeys of the chart, whose change starts the operator anew."""
    if world is None:
        return ServedWorld(settings=Settings(trusted_keys=keys))
    world.settings = Settings(trusted_keys=keys)
    world.start_operator()
    return world


def trusted(key: SigningKey = KEY, **fields: Any) -> TrustedKey:
    return TrustedKey.of(key.public).model_copy(update=fields)


def server(world: ServedWorld, version: int = 1) -> dict[str, Any]:
    """The environment of a version's server."""
    (container,) = world.deployment(version)["spec"]["template"]["spec"]["containers"]
    return variables(container)


def a_manifest(model: str) -> artifact.Manifest:
    """What a server finds beside the model of that letter."""
    return artifact.Manifest(digest=digest(model), files={}, run="r", plan_digest=digest("9"), created_at="now")


def served(model: str = "a") -> ServedWorld:
    """A model that passed is live as version 1."""
    world = ServedWorld()
    world.passes(model)
    world.serve(model)
    world.goes_live()
    return world


# ------------------------------------------------------------------------------------------------- what holds


def test_A_a_signed_pass_starts_a_version_whose_server_can_verify_it_by_itself():
    world = served()
    assert world.status["live"]["signedBy"] == OWN
    told = server(world)
    require_statement(told, a_manifest("a"))
    with pytest.raises(SettingsError, match="the model is not served"):
        require_statement(told, a_manifest("b"))
    judged = world.condition("Judged")
    assert (judged["status"], judged["reason"]) == ("True", "Passed")
    assert OWN in judged["message"]


def test_A_a_version_that_was_accepted_unjudged_is_asked_for_no_statement():
    world = ServedWorld()
    world.serve("a", unjudged=True)
    world.goes_live()
    assert "SLIPWAY_STATEMENT" not in server(world)
    assert "signedBy" not in world.status["live"]


def test_A_the_newest_judgement_counts_whichever_run_it_is_of():
    world = ServedWorld()
    world.passes("a")
    world.wait(60)
    world.signed("a", Verdict.FAIL, run="another", number=2)
    world.serve("a")
    world.settle()
    assert world.deployed() == []
    assert world.condition("Judged")["reason"] == "NotPassed"
    world.wait(60)
    world.signed("a", run="a-third", number=1)
    world.settle()
    assert world.deployed() == [1]


def test_B_a_judgement_that_says_nothing_of_the_model_takes_no_pass_back():
    """The judge's server was away in the night, and somebody rolls back in the morning."""
    world = served()
    world.passes("b")
    world.serve("b")
    world.goes_live(2)
    world.wait(60)
    for model in "ab":
        world.signed(model, Verdict.INCONCLUSIVE, run="nightly", number=2, says_nothing=True)
    world.settle()
    assert (world.live, world.route) == (2, 2)
    world.serve("b", rollbackTo=1)
    world.goes_live(3)
    assert world.status["live"]["digest"] == digest("a")


def test_A_nor_does_it_stand_before_a_failure_that_another_run_found():
    world = ServedWorld()
    world.passes("a")
    world.wait(60)
    world.signed("a", Verdict.FAIL, run="audit", number=1)
    for number in (1, 2, 3):
        world.wait(60)
        world.signed("a", Verdict.INCONCLUSIVE, run="nightly", number=number, says_nothing=True)
    world.serve("a")
    world.settle()
    assert world.deployed() == []
    assert world.condition("Judged")["reason"] == "NotPassed"


@pytest.mark.parametrize(("says_nothing", "deployed"), [(True, [1]), (None, [])])
def test_B_nor_does_the_status_of_a_run_that_says_so(says_nothing: bool | None, deployed: list[int]):
    world = ServedWorld()
    world.passes("a")
    run = world.cluster.one(kinds.TRAINING_RUN, "run-a")
    said = {"number": 1, "verdict": "Inconclusive", "artifactDigest": digest("a")}
    said |= {"saysNothing": True} if says_nothing else {}
    step = {"name": "evaluate", "state": "Failed", "attempt": 1, "finishedAt": "2026-01-01T12:00:30Z"}
    world.cluster.put({**run, "metadata": {"name": "later"}, "status": {"evaluation": said, "stages": [step]}})
    world.serve("a")
    world.settle()
    assert world.deployed() == deployed


def test_B_what_is_live_stays_live_when_a_later_judgement_fails_and_starts_again_by_the_pass_that_it_had():
    world = served()
    world.wait(60)
    world.signed("a", Verdict.FAIL, number=2)
    world.settle()
    assert (world.live, world.route) == (1, 1)
    before = server(world)["SLIPWAY_STATEMENT"]
    world.cluster.remove(kinds.DEPLOYMENT, NAMESPACE, names.version(NAME, 1))
    world.start_operator()
    world.settle()
    assert server(world)["SLIPWAY_STATEMENT"] == before


def test_A_a_judgement_that_somebody_removed_counts_as_long_as_its_run_says_so():
    world = ServedWorld()
    world.passes("a")
    run = world.cluster.one(kinds.TRAINING_RUN, "run-a")
    said = {"number": 1, "verdict": "Fail", "artifactDigest": digest("a")}
    step = {"name": "evaluate", "state": "Succeeded", "attempt": 1, "finishedAt": "2026-01-01T12:00:30Z"}
    world.cluster.put({**run, "metadata": {"name": "later"}, "status": {"evaluation": said, "stages": [step]}})
    world.serve("a")
    world.settle()
    assert world.deployed() == []
    assert "the run later has judged it since" in world.condition("Judged")["message"]
    said["verdict"] = "NotApplicable"
    world.cluster.put({**run, "metadata": {"name": "later"}, "status": {"evaluation": said, "stages": [step]}})
    world.settle()
    assert world.deployed() == [1], "no gate applied, so nothing was said of the model"


def test_A_a_judgement_of_another_namespace_counts_there():
    world = ServedWorld()
    world.signed("a", namespace="neighbor")
    world.serve("a")
    world.settle()
    assert world.deployed() == []
    assert world.condition("Judged")["reason"] == "OtherNamespace"
    world.passes("a")
    world.settle()
    assert world.deployed() == [1], "and is in the way of nothing here"


def test_A_a_judgement_of_another_cluster_counts_where_the_chart_trusts_its_key():
    world = ServedWorld()
    world.signed("a", key=OTHER_KEY, namespace="elsewhere")
    world.serve("a")
    world.settle()
    assert world.deployed() == []
    assert world.condition("Judged")["reason"] == "KeyNotTrusted"
    with_keys(trusted(OTHER_KEY), world=world)
    world.settle()
    assert world.status["candidate"]["signedBy"] == OTHER


OTHER_SIGNS = [TrustedKey.of(OTHER_KEY.public), TrustedKey.of(KEY.public)]
"""The operator's own keys once the other one signs."""


@pytest.mark.parametrize(
    ("own", "listed"),
    [
        pytest.param(OTHER_SIGNS, {}, id="by the operator's record"),
        pytest.param(OTHER_SIGNS, {"not_after": "2026-02-01T00:00:00Z"}, id="retired later"),
        pytest.param(OTHER_SIGNS[:1], {"own": True}, id="by the chart"),
    ],
)
def test_A_a_judgement_by_a_key_that_the_operator_had_before_counts_in_the_namespace_of_its_run(
    own: list[TrustedKey], listed: dict[str, Any]
):
    world = ServedWorld()
    world.cluster.put(trusted_keys(own, [], world.settings.signing))
    with_keys(trusted(**listed), world=world)
    world.signed("a", namespace="neighbor")
    world.serve("a")
    world.settle()
    assert (world.deployed(), world.condition("Judged")["reason"]) == ([], "OtherNamespace")
    world.signed("a", number=2)
    world.settle()
    assert world.status["candidate"]["signedBy"] == OWN


# ---------------------------------------------------------------------------------------------- what was changed

FORGED = SigningKey(b"9" * 32)


def statement(change: Callable[[str], str]) -> Callable[[Manifest], object]:
    """A change of the envelope in a record."""

    def changed(record: Manifest) -> None:
        record["data"]["statement"] = change(record["data"]["statement"])

    return changed


def payload(**fields: Any) -> Callable[[str], str]:
    """Returns the statement with other words under the old signature."""

    def changed(text: str) -> str:
        said = payload_of(text)
        said["predicate"] |= fields
        return with_payload(text, json.dumps(said).encode())

    return changed


def subject(text: str) -> str:
    said = payload_of(text)
    said["subject"][0]["digest"]["sha256"] = "b" * 64
    return with_payload(text, json.dumps(said).encode())


def resigned(text: str, key: SigningKey = FORGED, **more: Any) -> str:
    return signed_payload(json.dumps(payload_of(text)).encode(), key=key, **more)


def under_our_name(text: str) -> str:
    return altered(resigned(text), lambda one: one["signatures"][0].update(keyid=OWN))


def two_signatures(text: str) -> str:
    return altered(text, lambda one: one["signatures"].append(one["signatures"][0]))


def of_another_model(record: Manifest) -> None:
    world = ServedWorld()
    record["data"] = world.signed("b")["data"]


TAMPERED: dict[str, tuple[Callable[[Manifest], object], str]] = {
    "no statement": (lambda record: record["data"].pop("statement"), "StatementUnreadable"),
    "an empty one": (statement(lambda text: ""), "StatementUnreadable"),
    "cut off": (statement(lambda text: text[:-40]), "StatementUnreadable"),
    "no JSON": (statement(lambda text: "Pass"), "StatementUnreadable"),
    "too long": (statement(lambda text: text + " " * 100_000), "StatementUnreadable"),
    "the plain predicate": (statement(lambda text: json.dumps(payload_of(text))), "StatementUnreadable"),
    "no signature": (
        statement(lambda text: altered(text, lambda one: one.update(signatures=[]))),
        "StatementUnreadable",
    ),
    "two signatures": (statement(two_signatures), "StatementUnreadable"),
    "another type": (
        statement(lambda text: altered(text, lambda one: one.update(payloadType="text/plain"))),
        "StatementUnreadable",
    ),
    "a signed payload of another type": (
        statement(lambda text: resigned(text, KEY, payload_type="text/plain")),
        "StatementUnreadable",
    ),
    "a key twice": (
        statement(lambda text: text.replace('"payload":', '"payload":"e30=","payload":', 1)),
        "StatementUnreadable",
    ),
    "another verdict": (statement(payload(verdict="Fail")), "SignatureWrong"),
    "another run": (statement(payload(run={"name": "x", "uid": "x", "namespace": NAMESPACE})), "SignatureWrong"),
    "another plan": (statement(payload(plan=digest("c"))), "SignatureWrong"),
    "a later time": (statement(payload(judgedAt="2026-06-01T00:00:00Z")), "SignatureWrong"),
    "another evaluation": (statement(payload(evaluation=7)), "SignatureWrong"),
    "other gates": (statement(payload(gates=[])), "SignatureWrong"),
    "another record of parity": (statement(payload(parity=digest("d"))), "SignatureWrong"),
    "another subject": (statement(subject), "SignatureWrong"),
    "a signature of zeros": (
        statement(lambda text: altered(text, lambda one: one["signatures"][0].update(sig="A" * 86 + "=="))),
        "SignatureWrong",
    ),
    "signed by a stranger": (statement(resigned), "KeyNotTrusted"),
    "signed by a stranger under our name": (statement(under_our_name), "SignatureWrong"),
    "named after a stranger": (
        statement(lambda text: altered(text, lambda one: one["signatures"][0].update(keyid="theirs"))),
        "KeyNotTrusted",
    ),
    "the statement on another model": (of_another_model, "OtherModel"),
    "no label of the model": (lambda record: record["metadata"]["labels"].pop(names.DIGEST), "NoPassingVerdict"),
    "the role of a plan": (
        lambda record: record["metadata"]["labels"].update({names.ROLE: "plan"}),
        "NoPassingVerdict",
    ),
}


@pytest.mark.parametrize("tampered", TAMPERED)
def test_A_a_record_that_somebody_changed_starts_nothing_and_says_what_is_wrong(tampered: str):
    change, reason = TAMPERED[tampered]
    world = ServedWorld()
    world.passes("a")
    record = world.cluster.one(kinds.CONFIG_MAP, names.judgement(digest("a"), "run-a-0123", 1))
    change(record)
    world.cluster.put(record)
    world.serve("a")
    world.settle()
    assert (world.deployed(), world.candidate) == ([], None)
    assert world.condition("Judged")["reason"] == reason


@pytest.mark.parametrize("tampered", ["cut off", "another verdict", "the statement on another model"])
def test_A_what_was_changed_beside_a_pass_may_have_taken_it_back(tampered: str):
    change, reason = TAMPERED[tampered]
    world = ServedWorld()
    world.passes("a")
    second = world.signed("a", number=2)
    change(second)
    world.cluster.put(second)
    world.serve("a")
    world.settle()
    assert world.deployed() == []
    judged = world.condition("Judged")
    assert judged["reason"] == reason
    assert second["metadata"]["name"] in judged["message"], "who has to look knows where"


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> int:
    """The most judgements that are read; from 8 on an endpoint says that they get many."""
    monkeypatch.setattr(standings, "MOST", 10)
    monkeypatch.setattr(standings, "MANY", 8)
    return 10


def test_A_more_judgements_of_one_model_than_are_read_are_no_pass(few: int):
    world = ServedWorld()
    for number in range(1, few + 2):
        world.signed("a", number=number)
    world.serve("a")
    world.settle()
    assert world.deployed() == []
    message = world.condition("Judged")["message"]
    assert f"there are {few + 1} judgements" in message
    assert "somebody with the verb restore" in message, "the chart's policies let nobody else remove one"
    assert world.condition("ManyJudgements")["reason"] == "TooMany"


def test_an_endpoint_says_long_before_that_a_model_gets_too_many_judgements(few: int):
    world = served()
    for number in range(2, 8):
        world.signed("a", number=number)
    world.settle()
    assert (world.condition("ManyJudgements"), "ManyJudgements" in world.cluster.told()) == (None, False)
    last = world.signed("a", number=8)
    world.settle()
    many = world.condition("ManyJudgements")
    assert (many["reason"], f"there are 8 judgements of {digest('a')}" in many["message"]) == ("SoonTooMany", True)
    assert "SoonTooMany" in world.cluster.told()
    assert (world.live, world.condition("Judged")["reason"]) == (1, "Passed")
    world.cluster.remove(kinds.CONFIG_MAP, NAMESPACE, last["metadata"]["name"])
    world.settle()
    assert world.condition("ManyJudgements") is None


def test_B_what_is_live_is_made_again_by_its_statement_however_many_came_after_it(few: int):
    world = served()
    before = server(world)["SLIPWAY_STATEMENT"]
    for number in range(1, few + 2):
        world.signed("a", Verdict.FAIL, number=number, run="nightly")
    world.cluster.remove(kinds.DEPLOYMENT, NAMESPACE, names.version(NAME, 1))
    world.start_operator()
    world.settle()
    assert server(world)["SLIPWAY_STATEMENT"] == before


def test_a_statement_is_read_once_for_each_of_its_versions():
    world = served()
    reads: list[str] = []
    get = world.cluster.get

    async def noted(kind, namespace, name):
        reads.append(name)
        return await get(kind, namespace, name)

    world.cluster.get = noted  # type: ignore[method-assign]
    world.wait(60)
    world.settle()
    assert [name for name in reads if name.startswith("slipway-verdict-")] == []


def test_a_pass_in_which_nothing_changed_reads_opens_and_sorts_no_judgement(monkeypatch: pytest.MonkeyPatch):
    """200 runs that had judged one model, by 16 gates each, took every pass 0.2 s."""
    world = ServedWorld()
    gates = [JudgedGate(metric="perplexity", threshold="<= 20", verdict=Verdict.PASS, asked=AskedOfIt(max=20.0))]
    world.passes("a")
    for night in range(6):
        world.wait(60)
        world.signed("a", run=f"night-{night}", gates=gates)
    asked = {"requiredGates": [{"metric": "perplexity", "max": 20, "confidence": 0.5}]}
    calls: list[str] = []

    def counted(module: Any, name: str) -> None:
        real = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *args, **kwargs: (calls.append(name), real(*args, **kwargs))[1])

    counted(verdict_reader, "gates_of")
    counted(trust, "stand")
    counted(trust, "unsealed")
    world.serve("a", promotion=asked)
    world.goes_live()
    first = Counter(calls)
    assert first == {"unsealed": 8, "stand": 1, "gates_of": 2}, "what six nights asked is parsed once"
    world.settle()
    assert Counter(calls) == first
    world.signed("a", run="night-7", gates=gates)
    world.settle()
    assert Counter(calls) - first == {"unsealed": 1, "stand": 1, "gates_of": 2}


# ------------------------------------------------------------------------------------------------------- keys


def test_B_a_version_whose_key_is_revoked_loses_its_traffic_and_ends():
    world = with_keys(trusted(revoked=True), world=served())
    world.settle()
    assert (world.live, world.route, world.deployed()) == (None, None, [])
    revoked = world.condition("KeyRevoked")
    assert (revoked["status"], revoked["reason"]) == ("True", "VerdictNotTrusted")
    assert "KeyRevoked" in world.cluster.told()
    assert world.status["phase"] == "Pending"
    world.settle()
    assert world.deployed() == [], "and stays away"


def test_B_the_autoscaler_of_a_version_whose_key_is_revoked_goes_and_comes_back_with_the_model():
    world = ServedWorld()
    world.passes("a")
    world.serve("a", autoscaling={"maxReplicas": 3})
    world.goes_live()
    assert len(world.cluster.all(kinds.HPA)) == 1
    with_keys(trusted(revoked=True), trusted(OTHER_KEY), world=world)
    world.settle()
    assert (world.route, world.cluster.all(kinds.HPA)) == (None, [])
    world.wait(60)
    world.signed("a", key=OTHER_KEY, number=2)
    world.goes_live(2)
    (scaler,) = world.cluster.all(kinds.HPA)
    assert scaler["spec"]["scaleTargetRef"]["name"] == names.version(NAME, 2)


def test_B_a_status_that_was_lost_leaves_the_autoscaler_of_what_answers():
    world = ServedWorld()
    world.passes("a")
    world.serve("a", autoscaling={"maxReplicas": 3})
    world.goes_live()
    world.cluster.set_status(kinds.MODEL_ENDPOINT, NAMESPACE, NAME, {})
    for record in world.cluster.all(kinds.CONFIG_MAP):
        world.cluster.remove(kinds.CONFIG_MAP, NAMESPACE, record["metadata"]["name"])
    world.settle()
    assert (world.route, len(world.cluster.all(kinds.HPA))) == (1, 1)


def test_B_a_model_that_a_trusted_key_signs_again_comes_back():
    world = with_keys(trusted(revoked=True), trusted(OTHER_KEY), world=served())
    world.settle()
    assert world.live is None
    world.wait(60)
    world.signed("a", key=OTHER_KEY, number=2)
    world.goes_live(2)
    assert (world.route, world.status["live"]["signedBy"]) == (2, OTHER)
    assert world.condition("KeyRevoked") is None


def test_B_a_standby_that_another_key_signed_for_takes_the_place_of_a_revoked_version():
    world = with_keys(trusted(), trusted(OTHER_KEY))
    world.passes("a")
    world.serve("a")
    world.goes_live(1)
    world.signed("b", key=OTHER_KEY)
    world.serve("b")
    world.settle()
    world.becomes_ready(2)
    world.answers(2)
    world.settle()
    assert (world.live, world.remembered(1)["state"]) == (2, "Standby")
    with_keys(trusted(), trusted(OTHER_KEY, revoked=True), world=world)
    world.settle()
    assert (world.live, world.route, world.deployed()) == (1, 1, [1])


def test_B_a_status_that_was_lost_takes_no_traffic_from_what_answers():
    """Which is not what a revoked key does: nobody knows then what the version is."""
    world = served()
    world.cluster.set_status(kinds.MODEL_ENDPOINT, NAMESPACE, NAME, {})
    for record in world.cluster.all(kinds.CONFIG_MAP):
        world.cluster.remove(kinds.CONFIG_MAP, NAMESPACE, record["metadata"]["name"])
    world.settle()
    assert (world.route, world.deployed()) == (1, [1])


def test_B_a_retired_key_keeps_what_is_live_and_starts_nothing_new():
    world = served()
    world.signed("b")
    world.wait(3600)
    with_keys(trusted(not_after="2026-01-01T12:30:00Z"), world=world)
    world.serve("b")
    world.settle()
    assert (world.live, world.route, world.candidate) == (1, 1, None)
    assert world.condition("Judged")["reason"] == "KeyRetired"
    world.cluster.remove(kinds.DEPLOYMENT, NAMESPACE, names.version(NAME, 1))
    world.start_operator()
    world.settle()
    told = server(world)
    assert trust.check(told["SLIPWAY_STATEMENT"], digest("a"), trust.keys_of(told["SLIPWAY_TRUSTED_KEYS"])).passed


def test_B_an_operator_that_learns_of_another_key_restarts_nothing():
    world = served()
    before = world.deployment(1)
    with_keys(trusted(), trusted(OTHER_KEY), world=world)
    world.settle()
    assert world.deployment(1) == before


def test_A_a_version_whose_statement_is_gone_is_not_made_again_without_one():
    world = served()
    record = world.cluster.one(kinds.CONFIG_MAP, names.judgement(digest("a"), "run-a-0123", 1))
    world.cluster.remove(kinds.CONFIG_MAP, NAMESPACE, record["metadata"]["name"])
    world.cluster.remove(kinds.DEPLOYMENT, NAMESPACE, names.version(NAME, 1))
    world.start_operator()
    for _ in range(3):
        world.reconcile()
    assert world.deployed() == []
    refused = world.condition("Refused")
    assert (refused["reason"], "put its ConfigMap" in refused["message"]) == ("StatementMissing", True)
    world.cluster.put({**record, "metadata": {**record["metadata"], "uid": "restored"}})
    world.settle()
    assert world.deployed() == [1]


# -------------------------------------------------------------------------------------- before verdicts were signed


def test_B_what_a_release_started_that_signed_none_goes_on_and_says_so():
    world = ServedWorld()
    world.before_signing()
    assert (world.live, world.route) == (1, 1)
    judged = world.condition("Judged")
    assert (judged["status"], judged["reason"]) == ("True", "Unsigned")
    assert "SLIPWAY_STATEMENT" not in server(world)
    world.passes("b")
    world.serve("b")
    world.goes_live(2)
    world.serve("b", rollbackTo=1)
    world.goes_live(3)
    assert world.status["live"]["digest"] == digest("a")


def test_A_a_forged_record_of_such_a_release_brings_nothing_back_that_was_signed():
    world = served()
    world.signed("b")
    world.serve("b")
    world.goes_live(2)
    for record in world.cluster.all(kinds.CONFIG_MAP):
        if record["data"]["digest"] == digest("a"):
            world.cluster.remove(kinds.CONFIG_MAP, NAMESPACE, record["metadata"]["name"])
    world.vouched("a")
    world.serve("b", rollbackTo=1)
    world.settle()
    assert (world.live, world.candidate) == (2, None)


def test_A_without_its_record_such_a_version_is_started_by_nobody():
    world = ServedWorld()
    world.before_signing()
    world.passes("b")
    world.serve("b")
    world.goes_live(2)
    world.cluster.remove(kinds.CONFIG_MAP, NAMESPACE, names.verdict(digest("a")))
    world.serve("b", rollbackTo=1)
    world.settle()
    assert (world.live, world.candidate) == (2, None)
