"""What is tampered with does not hold, and each refusal says what it is and what to do."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from tests.unit.core.statements import (
    DIGEST,
    KEY,
    OTHER_DIGEST,
    OTHER_KEY,
    TRUSTED,
    altered,
    payload_of,
    sealed,
    signed_payload,
    with_payload,
)

from slipway_core.protocol.envelope import ENVELOPE_LIMIT
from slipway_core.protocol.statement import JudgedRun
from slipway_core.protocol.trust import (
    Flaw,
    Opened,
    StatementError,
    TrustedKey,
    TrustError,
    check,
    distinct,
    dump,
    keys_of,
    open_statement,
    opened,
    require_of_namespace,
    stand,
    standing,
)
from slipway_core.resources.status import Verdict

GOOD = sealed()
REVOKED = (TRUSTED[0].model_copy(update={"revoked": True}),)
RETIRED = (TRUSTED[0].model_copy(update={"not_after": "2026-11-29T04:29:59Z"}),)


def _changed(change: Callable[[dict[str, Any]], object], *, resigned: bool = False) -> str:
    """Returns the good statement with its payload changed; signed anew by its key or left with the old signature."""
    document = payload_of(GOOD)
    change(document)
    payload = json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
    return signed_payload(payload) if resigned else with_payload(GOOD, payload)


def _flipped(text: str) -> str:
    signature = bytearray(base64.b64decode(text))
    signature[40] ^= 1
    return base64.b64encode(signature).decode()


TAMPERINGS = {
    "another model, old signature": (
        _changed(lambda d: d["subject"][0]["digest"].update(sha256="cd" * 32)),
        Flaw.BAD_SIGNATURE,
    ),
    "the statement on another model": (sealed(digest=OTHER_DIGEST), Flaw.OTHER_MODEL),
    "a verdict turned to Pass": (
        with_payload(
            sealed(Verdict.FAIL),
            json.dumps(payload_of(GOOD), sort_keys=True, separators=(",", ":")).encode(),
        ),
        Flaw.BAD_SIGNATURE,
    ),
    "a verdict that is no pass": (sealed(Verdict.INCONCLUSIVE), Flaw.NOT_PASSED),
    "a threshold loosened": (
        _changed(lambda d: d["predicate"]["gates"][0].update(threshold="<= 9")),
        Flaw.BAD_SIGNATURE,
    ),
    "a bound moved": (_changed(lambda d: d["predicate"]["gates"][0].update(upper=3.0)), Flaw.BAD_SIGNATURE),
    "a gate taken out": (_changed(lambda d: d["predicate"]["gates"].clear()), Flaw.BAD_SIGNATURE),
    "a later time": (_changed(lambda d: d["predicate"].update(judgedAt="2027-01-01T00:00:00Z")), Flaw.BAD_SIGNATURE),
    "another run": (_changed(lambda d: d["predicate"]["run"].update(uid="9999")), Flaw.BAD_SIGNATURE),
    "other data": (_changed(lambda d: d["predicate"]["data"].update(heldOut="sha256:00")), Flaw.BAD_SIGNATURE),
    "one space more": (with_payload(GOOD, base64.b64decode(json.loads(GOOD)["payload"]) + b" "), Flaw.BAD_SIGNATURE),
    "one bit of the signature": (
        altered(GOOD, lambda d: d["signatures"][0].update(sig=_flipped(d["signatures"][0]["sig"]))),
        Flaw.BAD_SIGNATURE,
    ),
    "a signature cut short": (
        altered(GOOD, lambda d: d["signatures"][0].update(sig=d["signatures"][0]["sig"][:40])),
        Flaw.BAD_SIGNATURE,
    ),
    "no signature": (altered(GOOD, lambda d: d.update(signatures=[])), Flaw.UNREADABLE),
    "a second signature": (
        altered(GOOD, lambda d: d["signatures"].append({"keyid": "other", "sig": "AAAA"})),
        Flaw.UNREADABLE,
    ),
    "a key that nobody trusts": (sealed(key=OTHER_KEY), Flaw.UNTRUSTED_KEY),
    "a key that nobody trusts, under the name of one": (
        altered(sealed(key=OTHER_KEY), lambda d: d["signatures"][0].update(keyid=KEY.public.id)),
        Flaw.BAD_SIGNATURE,
    ),
    "the name of another key": (altered(GOOD, lambda d: d["signatures"][0].update(keyid="other")), Flaw.UNTRUSTED_KEY),
    "another type of payload": (altered(GOOD, lambda d: d.update(payloadType="text/plain")), Flaw.UNREADABLE),
    "signed, as another type of payload": (
        signed_payload(base64.b64decode(json.loads(GOOD)["payload"]), payload_type="text/plain"),
        Flaw.UNREADABLE,
    ),
    "signed, as another predicate": (
        _changed(lambda d: d.update(predicateType="https://slsa.dev/provenance/v1"), resigned=True),
        Flaw.UNREADABLE,
    ),
    "signed, about two models": (
        _changed(lambda d: d["subject"].append(payload_of(sealed(digest=OTHER_DIGEST))["subject"][0]), resigned=True),
        Flaw.UNREADABLE,
    ),
    "signed, with a field twice": (
        signed_payload(
            json.dumps(payload_of(GOOD)).replace('"verdict": "Pass"', '"verdict": "Fail", "verdict": "Pass"').encode()
        ),
        Flaw.UNREADABLE,
    ),
    "signed, a figure that is none": (
        signed_payload(json.dumps(payload_of(GOOD)).replace("3.75", "NaN").encode()),
        Flaw.UNREADABLE,
    ),
    "signed, a verdict that there is not": (
        _changed(lambda d: d["predicate"].update(verdict="Maybe"), resigned=True),
        Flaw.UNREADABLE,
    ),
    "signed, on a day that there is not": (
        _changed(lambda d: d["predicate"].update(judgedAt="2026-13-40T00:00:00Z"), resigned=True),
        Flaw.UNREADABLE,
    ),
    "signed, no text": (signed_payload(b"\xff\xfe"), Flaw.UNREADABLE),
    "base64 with a line break": (altered(GOOD, lambda d: d.update(payload=d["payload"] + "\n")), Flaw.UNREADABLE),
    "base64 for the same bytes": (
        altered(GOOD, lambda d: d["signatures"][0].update(sig=d["signatures"][0]["sig"][:-3] + "/==")),
        Flaw.UNREADABLE,
    ),
    "an outer field twice": (GOOD.replace('{"payload":', '{"payload":"AAAA","payload":'), Flaw.UNREADABLE),
    "cut off": (GOOD[: len(GOOD) // 2], Flaw.UNREADABLE),
    "empty": ("", Flaw.UNREADABLE),
    "something else": ("<html></html>", Flaw.UNREADABLE),
    "nested without an end": ("[" * 50_000, Flaw.UNREADABLE),
    "far too long": (GOOD + " " * ENVELOPE_LIMIT, Flaw.UNREADABLE),
}


@pytest.mark.parametrize(("text", "flaw"), TAMPERINGS.values(), ids=TAMPERINGS)
def test_a_what_is_tampered_with_is_refused(text: str, flaw: Flaw) -> None:
    with pytest.raises(StatementError) as refused:
        check(text, DIGEST, TRUSTED)
    assert refused.value.flaw is flaw
    said = str(refused.value)
    assert any(words in said for words in ("judge", "needs a pass")), said


def test_there_are_twenty_kinds_and_more() -> None:
    assert len(TAMPERINGS) >= 20
    assert all(text != GOOD for text, _ in TAMPERINGS.values())


def test_a_the_right_one_holds() -> None:
    held = check(GOOD, DIGEST, TRUSTED)
    assert (held.key.id, held.statement.digest) == (KEY.public.id, DIGEST)


def test_a_failed_judgement_holds_as_what_it_is() -> None:
    held = open_statement(sealed(Verdict.FAIL), TRUSTED)
    assert not held.passed


@pytest.mark.parametrize(
    ("keys", "flaw", "words"),
    [
        (REVOKED, Flaw.KEY_REVOKED, f"the key '{KEY.public.id}', which is revoked"),
        (RETIRED, Flaw.KEY_RETIRED, "was retired at 2026-11-29T04:29:59Z"),
        ((), Flaw.UNTRUSTED_KEY, "trusted are: none"),
        ((TrustedKey.of(OTHER_KEY.public),), Flaw.UNTRUSTED_KEY, f"trusted are: {OTHER_KEY.public.id};"),
    ],
)
def test_a_key_that_lost_its_trust_is_named(keys: tuple[TrustedKey, ...], flaw: Flaw, words: str) -> None:
    with pytest.raises(StatementError) as refused:
        check(GOOD, DIGEST, keys)
    assert refused.value.flaw is flaw
    assert words in str(refused.value)
    assert str(refused.value).startswith("the statement is "), "a sentence, as people read it"


def test_what_a_key_signed_before_it_was_retired_holds() -> None:
    key = TRUSTED[0].model_copy(update={"not_after": "2026-11-29T04:30:00Z"})
    held = check(GOOD, DIGEST, [key])
    assert held.key.retired(datetime(2026, 11, 29, 4, 30, 1, tzinfo=UTC))
    assert not held.key.retired(datetime(2026, 11, 29, 4, 30, tzinfo=UTC)), "in that second it still signs"
    assert not TRUSTED[0].retired(datetime(2036, 1, 1, tzinfo=UTC))


def test_the_newest_statement_counts() -> None:
    failed = sealed(Verdict.FAIL, judged_at="2026-11-29T05:00:00Z", reason="too many bits")
    again = sealed(judged_at="2026-11-29T06:00:00Z", evaluation=3)
    assert standing([GOOD], DIGEST, TRUSTED).passed
    taken_back = standing([failed, GOOD], DIGEST, TRUSTED)
    assert (taken_back.passed, taken_back.flaw) == (False, Flaw.NOT_PASSED)
    assert "too many bits" in taken_back.why
    assert standing([again, failed, GOOD], DIGEST, TRUSTED).passed


def test_a_of_one_run_the_last_evaluation_counts_though_the_clock_went_back() -> None:
    failed = sealed(Verdict.FAIL, judged_at="2026-11-29T04:29:00Z", evaluation=2)
    assert standing([failed, GOOD], DIGEST, TRUSTED).flaw is Flaw.NOT_PASSED
    other = JudgedRun(name="poems", uid="9999")
    passed = sealed(judged_at="2026-11-29T04:29:30Z", run=other)
    assert standing([failed, passed, GOOD], DIGEST, TRUSTED).newest == open_statement(passed, TRUSTED)


def test_of_one_second_the_one_that_did_not_pass_counts() -> None:
    assert not standing([GOOD, sealed(Verdict.FAIL)], DIGEST, TRUSTED).passed


def test_B_a_judgement_in_which_no_gate_applied_takes_nothing_back_and_lets_nothing_pass():
    """A run without gates makes a GGUF file of a model that is live: it keeps its digest, and nobody judged it anew."""
    other = JudgedRun(name="download", uid="4567")
    nothing = sealed(Verdict.NOT_APPLICABLE, run=other, judged_at="2026-11-30T00:00:00Z")
    failed = sealed(Verdict.FAIL, run=other, judged_at="2026-11-29T23:00:00Z", evaluation=2)
    assert standing([nothing, GOOD], DIGEST, TRUSTED).newest == open_statement(GOOD, TRUSTED)
    assert standing([nothing], DIGEST, TRUSTED).flaw is Flaw.NOT_PASSED
    assert standing([nothing, failed, GOOD], DIGEST, TRUSTED).flaw is Flaw.NOT_PASSED


@pytest.mark.parametrize("same_run", [True, False])
def test_B_a_judgement_that_says_nothing_of_the_model_takes_nothing_back_and_lets_nothing_pass(same_run: bool) -> None:
    """The step failed, or the judge's server was away."""
    run = JudgedRun(name="nightly", uid="0123" if same_run else "4567")
    later = {"run": run, "evaluation": 2, "judged_at": "2026-11-30T00:00:00Z"}
    nothing = sealed(Verdict.INCONCLUSIVE, says_nothing=True, **later)
    assert standing([nothing, GOOD], DIGEST, TRUSTED).newest == open_statement(GOOD, TRUSTED)
    assert standing([nothing], DIGEST, TRUSTED).flaw is Flaw.NOT_PASSED
    for says in (sealed(Verdict.INCONCLUSIVE, **later), sealed(Verdict.FAIL, says_nothing=True, **later)):
        assert standing([says, GOOD], DIGEST, TRUSTED).flaw is Flaw.NOT_PASSED


@pytest.mark.parametrize("evaluation", [2, 9])
def test_A_who_has_a_run_say_nothing_again_and_again_keeps_no_pass_that_another_one_took_back(evaluation: int) -> None:
    """By a judge that is never there, say, or beside a live version that cannot be measured."""
    failed = sealed(Verdict.FAIL, run=JudgedRun(name="audit", uid="4567"), judged_at="2026-11-29T05:00:00Z")
    nightly = [
        sealed(
            Verdict.INCONCLUSIVE, says_nothing=True, run=JudgedRun(name="nightly", uid=uid),
            evaluation=evaluation, judged_at=f"2026-11-30T0{night}:00:00Z",
        )
        for uid in ("0123", "4567", "89ab")
        for night in (1, 2, 3)
    ]  # fmt: skip
    for statements in ([GOOD, failed, *nightly], [*nightly, failed, GOOD]):
        found = standing(statements, DIGEST, TRUSTED)
        assert (found.flaw, found.newest) == (Flaw.NOT_PASSED, open_statement(failed, TRUSTED))
    assert standing([GOOD, *nightly], DIGEST, TRUSTED).passed
    assert standing(nightly, DIGEST, TRUSTED).flaw is Flaw.NOT_PASSED


def test_one_that_is_damaged_is_no_pass_whatever_stands_beside_it() -> None:
    damaged = sealed(Verdict.FAIL, judged_at="2026-11-29T05:00:00Z")[:100]
    assert standing([GOOD, damaged], DIGEST, TRUSTED).flaw is Flaw.UNREADABLE


def test_what_an_untrusted_key_says_changes_nothing() -> None:
    foreign = sealed(Verdict.FAIL, judged_at="2026-11-29T05:00:00Z", key=OTHER_KEY)
    assert standing([GOOD, foreign], DIGEST, TRUSTED).passed


def test_a_what_a_run_of_another_namespace_says_is_told_apart_and_in_the_way_of_nothing() -> None:
    elsewhere = opened(sealed(), DIGEST, TRUSTED).held
    assert elsewhere is not None
    require_of_namespace(elsewhere, "team")
    with pytest.raises(StatementError, match="of the namespace team, whose gates count there") as refused:
        require_of_namespace(elsewhere, "neighbor")
    aside = Opened(error=refused.value)
    assert (stand([aside], DIGEST).flaw, stand([aside], DIGEST).passed) == (Flaw.OTHER_NAMESPACE, False)
    assert stand([aside, opened(sealed(), DIGEST, TRUSTED)], DIGEST).passed


def test_a_what_is_kept_for_a_model_is_opened_as_what_it_says_of_it() -> None:
    """A cluster keeps the statements of all its namespaces' runs, which its own key has signed."""
    own = TRUSTED[0].model_copy(update={"own": True})
    for keys, known in ((TRUSTED, {}), ((own,), {}), (TRUSTED, {"namespace": "team"}), (TRUSTED, {"namespace": "x"})):
        assert opened(GOOD, DIGEST, keys, **known).held is not None, known
    assert opened(GOOD, DIGEST, (own,), namespace="team").held is not None
    elsewhere = opened(GOOD, DIGEST, (own,), namespace="neighbor")
    assert elsewhere.error is not None
    assert (elsewhere.held, elsewhere.error.flaw, elsewhere.text) == (None, Flaw.OTHER_NAMESPACE, GOOD)
    both = (own, TrustedKey.of(OTHER_KEY.public))
    assert opened(sealed(key=OTHER_KEY), DIGEST, both, namespace="neighbor").held is not None, "that key is everybody's"
    other = opened(sealed(digest=OTHER_DIGEST), DIGEST, TRUSTED)
    assert other.error is not None
    assert other.error.flaw is Flaw.OTHER_MODEL


def test_the_envelope_that_counts_is_kept_with_how_a_model_stands() -> None:
    failed = sealed(Verdict.FAIL, judged_at="2026-11-29T05:00:00Z", evaluation=2)
    for texts in ([GOOD, failed], [failed, GOOD]):
        assert standing(texts, DIGEST, TRUSTED).text == failed


def test_a_revoked_key_is_told_of_where_nothing_else_holds() -> None:
    assert standing([sealed(key=OTHER_KEY), GOOD], DIGEST, REVOKED).flaw is Flaw.KEY_REVOKED
    nothing = standing([], DIGEST, TRUSTED)
    assert (nothing.flaw, nothing.passed) == (None, False)
    assert DIGEST in nothing.why


def test_trusted_keys_are_read_as_they_are_written() -> None:
    keys = (*TRUSTED, TrustedKey(id="old", key=OTHER_KEY.public.text, not_after="2026-01-01T00:00:00Z", revoked=True))
    assert keys_of(dump(keys)) == keys
    assert "null" not in dump(keys), "a field that is not there is not written"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{}", "array"),
        ("nonsense", "the whole"),
        ('[{"id": "a"}]', "0.key"),
        ('[{"id": "a"}, {"id": "b"}]', "^0.key"),
        ('[{"id": "a", "key": "AAAA"}]', "MCowBQYDK2VwAyEA"),
        (f'[{{"id": "a b", "key": "{KEY.public.text}"}}]', "0.id"),
        (f'[{{"id": "a", "key": "{KEY.public.text}", "notAfter": "soon"}}]', "0.notAfter"),
        (f'[{{"id": "a", "key": "{KEY.public.text}", "revokd": true}}]', "0.revokd"),
        (f'[{{"id": "a", "key": "{KEY.public.text}", "not_after": "2026-01-01T00:00:00Z"}}]', "0.not_after"),
    ],
)
def test_keys_that_cannot_be_used_are_refused_by_their_field(text: str, words: str) -> None:
    with pytest.raises(TrustError, match=words):
        keys_of(text)


def test_two_keys_of_one_name_are_refused() -> None:
    with pytest.raises(TrustError, match="twice"):
        distinct([*TRUSTED, *TRUSTED])


def test_64_keys_are_taken_and_65_are_not() -> None:
    keys = [TRUSTED[0].model_copy(update={"id": f"key-{number}"}) for number in range(65)]
    assert distinct(keys[:64]) == tuple(keys[:64])
    with pytest.raises(TrustError, match="there are 65 keys; 64 are the most"):
        distinct(keys)
