"""H, A: the key that signs verdicts is made once, is one Secret, and a lost one is never replaced unseen."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest
from tests.unit.core.statements import KEY, OTHER_KEY
from tests.unit.operator.fake_cluster import FakeCluster

from slipway_core.protocol import trust
from slipway_core.protocol.signing import SigningKey
from slipway_core.protocol.trust import TrustedKey
from slipway_operator import names
from slipway_operator.common.signing_key import KEY_LOST, KEY_UNUSABLE, SigningKeyError
from slipway_operator.common.signing_keys import SigningKeys
from slipway_operator.kube import kinds
from slipway_operator.kube.errors import AlreadyExists, Conflict, Forbidden
from slipway_operator.manifests.signing_key import signing_secret, trusted_keys
from slipway_operator.settings import Settings, Signing

PLACE = Signing()
SECRET = ("Secret", PLACE.namespace, PLACE.secret)
RECORD = ("ConfigMap", PLACE.namespace, PLACE.keys)
OVER = "2025-12-31T00:00:00Z"
THEIRS = SigningKey(b"3" * 32)
"""Of another cluster."""


@dataclass
class Keys:
    """A process of the operator after the other, on one cluster."""

    cluster: FakeCluster = field(default_factory=FakeCluster)
    chart: tuple[TrustedKey, ...] = ()
    seeds: list[bytes] = field(default_factory=lambda: [b"1" * 32, b"2" * 32])

    def __post_init__(self) -> None:
        self.start()

    def start(self, *chart: TrustedKey) -> Keys:
        self.chart = chart or self.chart
        settings = Settings(trusted_keys=self.chart)
        cluster: Any = self.cluster
        clock = lambda: datetime(2026, 1, 1, tzinfo=UTC)  # noqa: E731
        self.process = SigningKeys(cluster, cluster.world, settings, clock, lambda size: self.seeds.pop(0))
        return self

    def signing(self) -> SigningKey:
        return asyncio.run(self.process.signing())

    def trusted(self) -> list[str]:
        return [key.id for key in asyncio.run(self.process.trusted())]

    def refusal(self) -> tuple[str, str]:
        with pytest.raises(SigningKeyError) as refused:
            self.signing()
        return refused.value.reason, str(refused.value)

    def loses_the_secret(self) -> Keys:
        self.cluster.remove(kinds.SECRET, PLACE.namespace, PLACE.secret)
        return self.start()

    @property
    def record(self) -> dict[str, str]:
        return self.cluster.objects[RECORD]["data"]


def entry(key: SigningKey = KEY, **more: Any) -> TrustedKey:
    return TrustedKey.of(key.public).model_copy(update=more)


def named_by_an_endpoint(cluster: FakeCluster, key: str) -> None:
    status = {"live": {"version": 1, "signedBy": key}}
    cluster.put({"kind": "ModelEndpoint", "metadata": {"name": "chat", "namespace": "team"}, "status": status})


def named_by_a_record(cluster: FakeCluster, key: str) -> None:
    metadata = {"name": "slipway-verdict-x", "namespace": "team", "labels": {names.SIGNED_BY: key}}
    cluster.put({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {}})


# --------------------------------------------------------------------------------------------------- is made once


def test_it_is_made_where_nothing_was_signed_and_told_to_all_who_verify():
    keys = Keys()
    assert keys.trusted() == []
    assert keys.signing() == KEY
    assert keys.trusted() == [KEY.public.id]
    assert trust.keys_of(keys.record["trusted.json"]) == (entry(own=True),)
    secret = keys.cluster.objects[SECRET]
    assert (secret["type"], secret["immutable"]) == ("Opaque", True)
    assert base64.b64decode(secret["data"]["signing.pem"]).decode() == KEY.pem
    writes = len(keys.cluster.writes)
    assert keys.start().signing() == KEY
    assert len(keys.cluster.writes) == writes, "and never again"


def test_H_nothing_but_the_secret_has_it(caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.DEBUG):
        keys = Keys()
        keys.signing()
    secret = keys.cluster.objects.pop(SECRET)
    kept = secret["data"]["signing.pem"]
    own = {name: value for name, value in vars(keys.process).items() if name not in ("cluster", "world")}
    elsewhere = "".join([*map(str, keys.cluster.objects.values()), caplog.text, repr(own), repr(KEY)])
    for told in (KEY.seed.hex(), str(KEY.seed), KEY.pem.splitlines()[1], kept):
        assert told not in elsewhere
    assert KEY.public.id in caplog.text


def test_F_a_process_that_died_before_it_had_told_of_it_is_followed_by_one_that_does():
    keys = Keys()
    keys.cluster.put(signing_secret(KEY, PLACE))
    assert keys.trusted() == [KEY.public.id]
    assert keys.signing() == KEY
    assert trust.keys_of(keys.record["own.json"]) == (entry(),)


def test_one_that_another_process_makes_at_that_moment_is_read_by_the_next_pass():
    keys = Keys()
    keys.cluster.fail_next("create", kinds.SECRET, AlreadyExists("there"))
    with pytest.raises(Conflict, match="made a moment ago"):
        keys.signing()
    keys.cluster.put(signing_secret(OTHER_KEY, PLACE))
    assert keys.signing() == OTHER_KEY


def test_two_passes_that_find_none_make_one():
    keys = Keys()

    async def both() -> list[SigningKey]:
        return list(await asyncio.gather(keys.process.signing(), keys.process.signing()))

    assert asyncio.run(both()) == [KEY, KEY]
    assert keys.cluster.written("create", kinds.SECRET) == [PLACE.secret]


def test_keys_of_the_chart_are_told_with_it_and_what_it_says_of_the_own_one_counts():
    keys = Keys().start(entry(OTHER_KEY))
    keys.signing()
    assert keys.trusted() == [OTHER_KEY.public.id, KEY.public.id]
    keys.start(entry(OTHER_KEY, revoked=True), entry(not_after="2026-06-01T00:00:00Z"))
    assert keys.trusted() == [OTHER_KEY.public.id, KEY.public.id]
    told = trust.keys_of(keys.record["trusted.json"])
    assert [(key.revoked, key.not_after) for key in told] == [(True, None), (False, "2026-06-01T00:00:00Z")]


def test_who_may_not_read_the_record_trusts_the_keys_of_the_chart():
    keys = Keys().start(entry(OTHER_KEY))

    async def refused(*_: object) -> None:
        raise Forbidden("configmaps is forbidden")

    keys.cluster.get = refused  # type: ignore[method-assign]
    assert keys.trusted() == [OTHER_KEY.public.id]
    with pytest.raises(Forbidden):
        keys.signing()


# ---------------------------------------------------------------------------------------------------------- is lost


def test_A_one_that_is_lost_is_not_replaced_and_what_it_signed_is_trusted_still():
    keys = Keys()
    keys.signing()
    reason, message = keys.loses_the_secret().refusal()
    assert reason == KEY_LOST
    assert f"{PLACE.namespace}/{PLACE.secret}" in message
    listed = {"id": KEY.public.id, "key": KEY.public.text, "notAfter": "2026-01-01T00:00:00Z", "own": True}
    assert json.dumps(listed) in message
    assert keys.trusted() == [KEY.public.id]
    keys.cluster.put(signing_secret(KEY, PLACE))
    assert keys.signing() == KEY


@pytest.mark.parametrize("named", [named_by_an_endpoint, named_by_a_record])
def test_A_a_key_that_only_its_work_tells_of_is_lost_too(named: Any):
    keys = Keys()
    named(keys.cluster, "before")
    reason, message = keys.refusal()
    assert (reason, "'before'" in message, "team/" in message) == (KEY_LOST, True, True)
    assert SECRET not in keys.cluster.objects
    other = TrustedKey(id="before", key=OTHER_KEY.public.text, not_after=OVER)
    assert keys.start(other).signing() == KEY


@pytest.mark.parametrize("over", [{"not_after": OVER}, {"revoked": True}])
def test_one_that_the_chart_says_to_be_over_is_followed_by_a_new_one(over: dict[str, Any]):
    keys = Keys()
    keys.signing()
    named_by_an_endpoint(keys.cluster, KEY.public.id)
    keys.loses_the_secret().start(entry(**over))
    assert keys.signing() == OTHER_KEY
    assert keys.trusted() == [KEY.public.id, OTHER_KEY.public.id]
    assert trust.keys_of(keys.record["own.json"]) == (entry(OTHER_KEY), entry())


def test_one_that_is_listed_and_not_over_is_lost():
    keys = Keys()
    keys.signing()
    assert keys.loses_the_secret().start(entry()).refusal()[0] == KEY_LOST
    assert keys.start(entry(not_after="2026-02-01T00:00:00Z")).refusal()[0] == KEY_LOST


# ------------------------------------------------------------------------------------------------------ may not sign


@pytest.mark.parametrize(
    "data", [{}, {"signing.pem": "!"}, {"signing.pem": ""}, {"signing.pem": base64.b64encode(b"\xff").decode()}]
)
def test_a_secret_that_holds_no_key_signs_nothing_and_is_left_alone(data: dict[str, str]):
    keys = Keys()
    keys.cluster.put({**signing_secret(KEY, PLACE), "data": data})
    reason, message = keys.refusal()
    assert (reason, "is no private ed25519 key" in message) == (KEY_UNUSABLE, True)
    assert keys.cluster.objects[SECRET]["data"] == data


@pytest.mark.parametrize(("over", "what"), [({"not_after": OVER}, "retired"), ({"revoked": True}, "revoked")])
def test_one_that_is_over_signs_no_more(over: dict[str, Any], what: str):
    keys = Keys()
    keys.signing()
    reason, message = keys.start(entry(**over)).refusal()
    assert (reason, f"is {what} by the chart's trustedKeys; delete the Secret" in message) == (KEY_UNUSABLE, True)


def test_A_another_key_under_its_name_signs_nothing_until_the_chart_lists_the_one_before():
    keys = Keys()
    keys.signing()
    keys.loses_the_secret().cluster.put(signing_secret(OTHER_KEY, PLACE))
    reason, message = keys.refusal()
    assert (reason, f"what is live was signed by '{KEY.public.id}'" in message) == (KEY_UNUSABLE, True)
    assert keys.start(entry(not_after=OVER)).signing() == OTHER_KEY


@pytest.mark.parametrize(
    "listed", [TrustedKey(id="mine", key=KEY.public.text), TrustedKey(id=KEY.public.id, key=OTHER_KEY.public.text)]
)
def test_the_chart_calls_it_as_statements_do(listed: TrustedKey):
    keys = Keys().start(listed)
    keys.cluster.put(signing_secret(KEY, PLACE))
    reason, message = keys.refusal()
    assert (reason, KEY.public.id in message) == (KEY_UNUSABLE, True)


def test_a_record_that_somebody_removed_is_there_again_with_the_next_judgement():
    keys = Keys()
    keys.signing()
    before = keys.record
    keys.cluster.remove(kinds.CONFIG_MAP, PLACE.namespace, PLACE.keys)
    keys.signing()
    assert keys.record == before
    writes = len(keys.cluster.writes)
    keys.signing()
    assert len(keys.cluster.writes) == writes


def test_a_record_that_somebody_damaged_is_written_anew():
    keys = Keys()
    keys.signing()
    record = keys.cluster.objects[RECORD]
    keys.cluster.put({**record, "data": {"own.json": "[]x"}})
    assert keys.start().trusted() == [KEY.public.id]
    assert trust.keys_of(keys.record["own.json"]) == (entry(),)


def test_what_is_told_names_no_key_where_there_is_none():
    assert trusted_keys([], [entry(OTHER_KEY)], PLACE)["data"]["own.json"] == "[]"


# ------------------------------------------------------------------------------------------------- many passes at once


@dataclass
class SlowReads:
    """A cluster whose answers take a turn of the loop, and those about the Secret until they are let out."""

    cluster: FakeCluster
    let_out: asyncio.Event = field(default_factory=asyncio.Event)
    begun: asyncio.Queue[None] = field(default_factory=asyncio.Queue[None])
    """One for each read of the Secret that has begun."""
    secrets_read: int = 0

    def __post_init__(self) -> None:
        self.get, self.cluster.get = self.cluster.get, self.answer  # type: ignore[method-assign]

    async def answer(self, kind: kinds.Kind, namespace: str, name: str) -> Any:
        found = await self.get(kind, namespace, name)
        await asyncio.sleep(0)
        if kind == kinds.SECRET:
            self.secrets_read += 1
            self.begun.put_nowait(None)
            await self.let_out.wait()
        return found


def with_a_key() -> Keys:
    keys = Keys()
    keys.signing()
    return keys


def at_the_same_time(keys: Keys) -> tuple[list[SigningKey | BaseException], int]:
    """A pass asks, and a hundred more while it looks. Returns what each is told, and how many looks that took."""

    async def many() -> tuple[list[SigningKey | BaseException], int]:
        slow = SlowReads(keys.cluster)
        first = asyncio.create_task(keys.process.signing())
        await slow.begun.get()
        others = [asyncio.create_task(keys.process.signing()) for _ in range(100)]
        await asyncio.sleep(0)
        slow.let_out.set()
        return await asyncio.gather(first, *others, return_exceptions=True), slow.secrets_read

    return asyncio.run(many())


def test_passes_that_sign_at_the_same_time_share_a_look_at_the_key():
    keys = with_a_key()
    assert at_the_same_time(keys) == ([KEY] * 101, 2)
    assert KEY not in vars(keys.process).values(), "once nobody signs, nobody has it"


def test_passes_that_ask_at_the_same_time_share_what_a_lost_key_is_told_as():
    keys = with_a_key()
    keys.cluster.remove(kinds.SECRET, PLACE.namespace, PLACE.secret)
    told, looks = at_the_same_time(keys)
    assert {one.reason for one in told if isinstance(one, SigningKeyError)} == {KEY_LOST}
    assert (len(told), looks) == (101, 2)
    assert all(isinstance(one, SigningKeyError) for one in told)


def test_A_a_pass_is_not_answered_by_a_look_that_began_before_it_asked():
    keys = with_a_key()

    async def lost_in_between() -> list[SigningKey | BaseException]:
        slow = SlowReads(keys.cluster)
        first = asyncio.create_task(keys.process.signing())
        await slow.begun.get()
        keys.cluster.remove(kinds.SECRET, PLACE.namespace, PLACE.secret)
        second = asyncio.create_task(keys.process.signing())
        await asyncio.sleep(0)
        slow.let_out.set()
        return await asyncio.gather(first, second, return_exceptions=True)

    first, second = asyncio.run(lost_in_between())
    assert first == KEY
    assert isinstance(second, SigningKeyError)
    assert second.reason == KEY_LOST


def test_a_pass_that_is_given_up_while_it_looks_leaves_the_look_to_the_next_one():
    keys = with_a_key()

    async def given_up() -> list[SigningKey]:
        slow = SlowReads(keys.cluster)
        first = asyncio.create_task(keys.process.signing())
        await slow.begun.get()
        others = [asyncio.create_task(keys.process.signing()) for _ in range(2)]
        await asyncio.sleep(0)
        first.cancel()
        await slow.begun.get()
        slow.let_out.set()
        return await asyncio.wait_for(asyncio.gather(*others), 5)

    assert asyncio.run(given_up()) == [KEY, KEY]
    assert KEY not in vars(keys.process).values()


def test_who_only_verifies_does_not_wait_for_the_key_that_signs():
    keys = with_a_key()

    async def verifies() -> list[str]:
        slow = SlowReads(keys.cluster)
        signs = asyncio.create_task(keys.process.signing())
        await slow.begun.get()
        trusted = await asyncio.wait_for(keys.process.trusted(), 5)
        slow.let_out.set()
        await signs
        return [key.id for key in trusted]

    assert asyncio.run(verifies()) == [KEY.public.id]


# -------------------------------------------------------------------------------------------------- whose it was


def test_A_a_key_that_signed_here_is_known_as_the_operators_own_whatever_the_chart_says_of_it():
    keys = Keys()
    keys.signing()
    keys.loses_the_secret().cluster.put(signing_secret(OTHER_KEY, PLACE))
    keys.start(entry(), entry(THEIRS))
    assert keys.signing() == OTHER_KEY
    for process in (keys, keys.start()):
        told = {key.key: key.own for key in asyncio.run(process.process.trusted())}
        assert told == {KEY.public.text: True, THEIRS.public.text: False, OTHER_KEY.public.text: True}
    assert trust.keys_of(keys.record["own.json"]) == (entry(OTHER_KEY), entry())
    assert {key.key for key in trust.keys_of(keys.record["trusted.json"]) if key.own} == {
        KEY.public.text,
        OTHER_KEY.public.text,
    }


def test_a_key_of_which_no_record_tells_is_the_operators_own_where_the_chart_says_so():
    keys = Keys().start(entry(own=True, not_after=OVER), entry(THEIRS))
    assert [key.own for key in asyncio.run(keys.process.trusted())] == [True, False]


def test_the_keys_are_the_same_object_until_another_one_signs():
    keys = Keys().start(entry(THEIRS))
    first = asyncio.run(keys.process.trusted())
    assert asyncio.run(keys.process.trusted()) is first
    keys.signing()
    second = asyncio.run(keys.process.trusted())
    assert second != first
    keys.signing()
    assert asyncio.run(keys.process.trusted()) is second
