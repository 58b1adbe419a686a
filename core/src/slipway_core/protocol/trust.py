"""Whether a statement holds: signed by a key that is trusted, about this model, and a pass.

The one place that says so, for the operator, the local executor, the server and `slipway verify` alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Self

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError

from slipway_core.protocol import envelope
from slipway_core.protocol.envelope import PAYLOAD_TYPE, EnvelopeError
from slipway_core.protocol.signing import PublicKey
from slipway_core.protocol.statement import Moment, Statement
from slipway_core.resources.api import Api
from slipway_core.resources.conditions import parse_timestamp
from slipway_core.resources.status import Verdict

KEYS_LIMIT = 64


class Flaw(StrEnum):
    """Why a statement does not hold. CamelCase, as the reason of a condition is."""

    UNREADABLE = "StatementUnreadable"
    UNTRUSTED_KEY = "KeyNotTrusted"
    KEY_REVOKED = "KeyRevoked"
    KEY_RETIRED = "KeyRetired"
    BAD_SIGNATURE = "SignatureWrong"
    OTHER_MODEL = "OtherModel"
    OTHER_NAMESPACE = "OtherNamespace"
    NOT_PASSED = "NotPassed"


class StatementError(Exception):
    """A statement does not hold. The message says why, and what to do."""

    def __init__(self, flaw: Flaw, message: str) -> None:
        super().__init__(message)
        self.flaw = flaw


class TrustError(ValueError):
    """A list of trusted keys cannot be used. The message names the key and the field."""


def _public_key(text: str) -> str:
    PublicKey.parse(text)
    return text


class TrustedKey(Api):
    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$", max_length=63)]
    """How statements name the key."""
    key: Annotated[str, AfterValidator(_public_key), Field(max_length=128)]
    """The public key, as one line of base64: what `openssl pkey -pubout` writes between BEGIN and END."""
    not_after: Moment | None = None
    """When the key was retired, as 2026-11-29T04:30:00Z: what it signed later does not count, and what it signed before
    lets nothing new go live."""
    revoked: bool = False
    """Whether nothing that it ever signed counts."""
    own: bool = False
    """Whether it signs, or once signed, for the operator of this cluster: a statement by it counts in the namespace of
    its run alone. Of another cluster's nobody here knows what its namespaces are."""

    @classmethod
    def of(cls, key: PublicKey) -> Self:
        return cls(id=key.id, key=key.text)

    def retired(self, now: datetime) -> bool:
        return self.not_after is not None and parse_timestamp(self.not_after) < now


_LIST = TypeAdapter(list[TrustedKey])


def keys_of(text: str) -> tuple[TrustedKey, ...]:
    """Reads a JSON list of trusted keys. Raises TrustError."""
    try:
        keys = _LIST.validate_json(text, by_alias=True, by_name=False)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise TrustError(f"{where or 'the whole'}: {first['msg']}") from None
    return distinct(keys)


def distinct(keys: Iterable[TrustedKey]) -> tuple[TrustedKey, ...]:
    """Raises TrustError for two keys of one id, of which nobody could say which is meant."""
    found = tuple(keys)
    ids = [key.id for key in found]
    if twice := next((one for one in ids if ids.count(one) > 1), None):
        raise TrustError(f"the key {twice!r} is there twice; leave one of them out, or give it another id")
    if len(found) > KEYS_LIMIT:
        raise TrustError(f"there are {len(found)} keys; {KEYS_LIMIT} are the most")
    return found


def dump(keys: Iterable[TrustedKey]) -> str:
    """Returns what `keys_of` reads."""
    return _LIST.dump_json(list(keys), by_alias=True, exclude_defaults=True).decode()


@dataclass(frozen=True)
class Held:
    """A statement that a trusted key has signed."""

    statement: Statement
    key: TrustedKey

    @property
    def passed(self) -> bool:
        return self.statement.predicate.verdict is Verdict.PASS

    @property
    def says_nothing(self) -> bool:
        """Whether it says nothing of the model: no gate applied, or nothing was found out of it."""
        judgement = self.statement.predicate
        prevented = judgement.verdict is Verdict.INCONCLUSIVE and judgement.says_nothing is True
        return prevented or judgement.verdict is Verdict.NOT_APPLICABLE

    @property
    def order(self) -> tuple[str, bool, int]:
        """Of several about one model the greatest counts: the newest, and of one second the one that did not pass."""
        judgement = self.statement.predicate
        return judgement.judged_at, not self.passed, judgement.evaluation


def open_statement(text: str, keys: Sequence[TrustedKey]) -> Held:
    """Returns what a trusted key has signed, whatever it says.

    Raises StatementError: it is no statement, its key is not trusted or revoked, or the signature is not the key's.
    """
    try:
        sealed = envelope.read(text)
    except EnvelopeError as error:
        raise StatementError(Flaw.UNREADABLE, f"the statement {error}; {_AGAIN}") from None
    if sealed.payload_type != PAYLOAD_TYPE:
        message = f"the statement is of the type {sealed.payload_type[:64]!r}, not {PAYLOAD_TYPE}; {_AGAIN}"
        raise StatementError(Flaw.UNREADABLE, message)
    key = next((one for one in keys if one.id == sealed.key_id), None)
    if key is None:
        known = ", ".join(one.id for one in keys) or "none"
        raise StatementError(
            Flaw.UNTRUSTED_KEY,
            f"the statement is signed by the key {sealed.key_id!r}, and trusted are: {known}; add that key to the "
            "trusted ones if it is one of yours (on a cluster trustedKeys of the chart, on a machine "
            "keys/trusted.json of the state folder), or have a run judge the model again",
        )
    if key.revoked:
        raise StatementError(
            Flaw.KEY_REVOKED,
            f"the statement is signed by the key {key.id!r}, which is revoked; have a run judge the model again",
        )
    if not PublicKey.parse(key.key).holds(sealed.signed, sealed.signature):
        raise StatementError(
            Flaw.BAD_SIGNATURE,
            f"the signature is not that of the key {key.id!r} over this statement: one of them was changed; {_AGAIN}",
        )
    try:
        statement = envelope.statement_in(sealed)
    except EnvelopeError as error:
        message = f"the statement that {key.id!r} signed {error}; verify it with the release that wrote it, or {_AGAIN}"
        raise StatementError(Flaw.UNREADABLE, message) from None
    judged_at = statement.predicate.judged_at
    if key.not_after is not None and judged_at > key.not_after:
        raise StatementError(
            Flaw.KEY_RETIRED,
            f"the statement is of {judged_at}, and its key {key.id!r} was retired at {key.not_after}; have a run judge "
            "the model again",
        )
    return Held(statement, key)


_AGAIN = "put the right one back, or remove it and have a run judge the model again"


def require_about(held: Held, digest: str) -> None:
    """Raises StatementError where it is about another model."""
    if held.statement.digest != digest:
        raise StatementError(
            Flaw.OTHER_MODEL,
            f"the statement is about the model {held.statement.digest}, and this one is {digest}; name the statement "
            "on this model, or have a run judge it",
        )


def require_of_namespace(held: Held, namespace: str) -> None:
    """Raises StatementError where a run of another namespace was judged, whose gates are those of another team."""
    judged = held.statement.predicate.run
    if judged.namespace != namespace:
        raise StatementError(
            Flaw.OTHER_NAMESPACE,
            f"the statement is about the run {judged.name} of the namespace {judged.namespace}, whose gates count "
            f"there; have a run of {namespace} judge the model (`stages: []` judges one as it is)",
        )


def require_pass(held: Held) -> None:
    """Raises StatementError where the model did not pass."""
    judgement = held.statement.predicate
    if not held.passed:
        why = f": {judgement.reason}" if judgement.reason else ""
        raise StatementError(
            Flaw.NOT_PASSED,
            f"evaluation {judgement.evaluation} of the run {judgement.run.name} came out as "
            f"{judgement.verdict.value}{why}; a model needs a pass to be served",
        )


def check(text: str, digest: str, keys: Sequence[TrustedKey]) -> Held:
    """Returns a statement by which a model of this digest may be served. Raises StatementError."""
    held = open_statement(text, keys)
    require_about(held, digest)
    require_pass(held)
    return held


@dataclass(frozen=True)
class Standing:
    """How a model stands by all the statements about it."""

    newest: Held | None = None
    """The one that counts; None where none holds."""
    text: str = ""
    """Its envelope."""
    flaw: Flaw | None = None
    why: str = ""
    """Why it does not pass; empty where it does."""
    at_fault: int | None = None
    """Place of the statement that is damaged or about another model, among those that were looked at."""

    @property
    def passed(self) -> bool:
        return self.flaw is None and self.newest is not None


@dataclass(frozen=True)
class Opened:
    """A statement that was looked at for one model: it holds, or it is known why it does not."""

    held: Held | None = None
    error: StatementError | None = None
    text: str = ""
    """Its envelope; empty where nobody is going to need it."""


def opened(text: str, digest: str, keys: Sequence[TrustedKey], *, namespace: str | None = None) -> Opened:
    """Returns what a statement comes to that is kept for a model of this digest, whatever it says of it.

    Args:
        namespace: in which the statement is kept; None on one machine.
    """
    return kept_for(unsealed(text, keys), digest, namespace)


def unsealed(text: str, keys: Sequence[TrustedKey]) -> Opened:
    """Returns the same without a word on which model it is kept for, and where."""
    try:
        return Opened(open_statement(text, keys), text=text)
    except StatementError as error:
        return Opened(error=error, text=text)


def kept_for(one: Opened, digest: str, namespace: str | None) -> Opened:
    """Returns what a statement comes to for the model that it is kept for, in this namespace."""
    if one.held is None:
        return one
    try:
        require_about(one.held, digest)
        if namespace is not None and one.held.key.own:
            require_of_namespace(one.held, namespace)
    except StatementError as error:
        return Opened(error=error, text=one.text)
    return one


def standing(texts: Iterable[str], digest: str, keys: Sequence[TrustedKey]) -> Standing:
    """Returns how a model stands by the envelopes of all statements that are kept for it, as `stand` says."""
    return stand((opened(text, digest, keys) for text in texts), digest)


def stand(statements: Iterable[Opened], digest: str) -> Standing:
    """Returns how a model stands. The newest statement counts, of those that keys sign which are trusted; of one run
    that is the one of its last evaluation, whatever the clock was then.

    One that says nothing of the model counts where there is no other: no gate applied, or the evaluation failed, or the
    judge's server was not there. One that is damaged, or about another model, is no pass whatever stands beside it: it
    may have been the one that takes a pass back.
    """
    held: list[tuple[Held, str]] = []
    aside: StatementError | None = None
    for place, one in enumerate(statements):
        if one.held is not None:
            held.append((one.held, one.text))
        elif (error := one.error) is not None:
            if error.flaw not in ASIDE:
                return Standing(flaw=error.flaw, why=str(error), at_fault=place)
            if aside is None or error.flaw is Flaw.KEY_REVOKED:
                aside = error
    if not held:
        return Standing(flaw=aside.flaw if aside else None, why=str(aside) if aside else f"{NO_STATEMENT} {digest}")
    newest = last_judgements([one for one, _ in held])[-1]
    text = next(text for one, text in held if one is newest)
    try:
        require_pass(newest)
    except StatementError as error:
        return Standing(newest, text, error.flaw, str(error))
    return Standing(newest, text)


def last_judgements(statements: Sequence[Held]) -> list[Held]:
    """Returns of the statements about one model the one of each run's last evaluation, the one that counts last. Those
    that say nothing of the model are left out where there are others."""
    said = [one for one in statements if not one.says_nothing]
    last: dict[str, Held] = {}
    for one in sorted(said or statements, key=lambda one: (one.statement.predicate.evaluation, one.order)):
        last[one.statement.predicate.run.uid] = one
    return sorted(last.values(), key=lambda one: one.order)


ASIDE = frozenset({Flaw.UNTRUSTED_KEY, Flaw.KEY_REVOKED, Flaw.KEY_RETIRED, Flaw.OTHER_NAMESPACE})
"""Flaws of a statement that leave others about the same model what they are: it is not its content that is wrong."""
NO_STATEMENT = "there is no statement on the model"
