"""Whether the key that signs verdicts may be used, or made anew. Pure.

A new key in the place of one that is lost would hide that it is lost, and nobody would know whose hands it is in. So
one is made only while nothing was ever signed, or once the chart says of every earlier one that it is over.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime

from slipway_core.protocol import trust
from slipway_core.protocol.signing import KeyFormatError, PublicKey, SigningKey
from slipway_core.protocol.trust import KEYS_LIMIT, TrustedKey
from slipway_core.resources.conditions import timestamp

KEY_LOST = "SigningKeyLost"
KEY_UNUSABLE = "SigningKeyUnusable"


class SigningKeyError(Exception):
    """Nothing can be signed now. The message says why and what to do; `reason` is that of a condition."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def with_own(chart: Sequence[TrustedKey], own: Sequence[TrustedKey]) -> tuple[TrustedKey, ...]:
    """Returns the keys that count: those of the chart, and the one that signs here where the chart does not say more of
    it. Of a key that has its id in the chart, and is another one, the chart's counts.

    Args:
        own: the key that signs here, and after it those that did before. In the chart too they are the operator's own,
            whether that says so or not.
    """
    mine = {key.key for key in own}
    listed = [_marked(key) if key.key in mine else key for key in chart]
    told = any(own[0].key == key.key or own[0].id == key.id for key in chart) if own else True
    return tuple(listed) if told else (*listed, _marked(own[0]))


def _marked(key: TrustedKey) -> TrustedKey:
    return key.model_copy(update={"own": True})


def followed_by(own: Sequence[TrustedKey], key: TrustedKey) -> tuple[TrustedKey, ...]:
    """Returns the operator's own keys once this one signs: the newest first."""
    return (key, *(one for one in own if one.key != key.key))[:KEYS_LIMIT]


def usable(pem: str, place: str, own: TrustedKey | None, chart: Sequence[TrustedKey], now: datetime) -> SigningKey:
    """Returns the key that a Secret holds.

    Args:
        pem: what the Secret has.
        place: of the Secret, for people.
        own: the operator's key as it was recorded last.
        chart: trustedKeys.
        now: the time.

    Raises SigningKeyError: it is no key, or none that may sign.
    """
    try:
        key = SigningKey.parse(pem)
    except KeyFormatError as error:
        raise SigningKeyError(KEY_UNUSABLE, f"the Secret {place} {error}, or put the key back that was there") from None
    public = key.public
    if own is not None and own.key != public.text and not _is_listed(own, chart):
        raise SigningKeyError(
            KEY_UNUSABLE,
            f"the Secret {place} has the key {public.id!r}, and what is live was signed by {own.id!r}: put that one "
            f"back, or list it in the chart's trustedKeys, and this one signs from then on: {_retired(own, now)}",
        )
    for listed in chart:
        if (listed.key == public.text) != (listed.id == public.id):
            raise SigningKeyError(
                KEY_UNUSABLE,
                f"trustedKeys: {listed.id!r} is not what the key of the Secret {place} is called; write "
                f"{trust.dump([TrustedKey.of(public)])[1:-1]} for that one, and call others otherwise",
            )
        if listed.key == public.text and (listed.revoked or listed.retired(now)):
            what = "revoked" if listed.revoked else "retired"
            raise SigningKeyError(
                KEY_UNUSABLE,
                f"the key {public.id!r} of the Secret {place} is {what} by the chart's trustedKeys; delete the Secret, "
                "and a new key is made",
            )
    return key


def require_none_before(
    place: str, own: TrustedKey | None, signers: Mapping[str, str], chart: Sequence[TrustedKey], now: datetime
) -> None:
    """Raises SigningKeyError where there was a key that the chart does not say to be over.

    Args:
        place: of the Secret that is missing, for people.
        own: the operator's key as it was recorded last.
        signers: of what there is, the keys that signed it: where each is named, by its id.
        chart: trustedKeys.
        now: the time.
    """
    if own is not None and not _is_over(own, chart, now):
        raise SigningKeyError(
            KEY_LOST,
            f"the Secret {place} with the key {own.id!r} that signs verdicts is missing: put it back from a backup, or "
            f"list the key in the chart's trustedKeys, and a new one is made: {_retired(own, now)}",
        )
    listed = {key.id for key in chart}
    unknown = next((id_ for id_ in sorted(signers) if id_ not in listed and (own is None or id_ != own.id)), None)
    if unknown is not None:
        raise SigningKeyError(
            KEY_LOST,
            f"the Secret {place} is missing, and {signers[unknown]} names a verdict that the key {unknown!r} signed: "
            "put it back from a backup, or list that key in the chart's trustedKeys with a notAfter that is over, and "
            "a new one is made",
        )


def public_of(pem: str) -> PublicKey | None:
    """Returns the public half of what a Secret holds; None where that is no key."""
    try:
        return SigningKey.parse(pem).public
    except KeyFormatError:
        return None


def _is_listed(key: TrustedKey, chart: Sequence[TrustedKey]) -> bool:
    return any(one.key == key.key for one in chart)


def _is_over(key: TrustedKey, chart: Sequence[TrustedKey], now: datetime) -> bool:
    return any(one.key == key.key and (one.revoked or one.retired(now)) for one in chart)


def _retired(key: TrustedKey, now: datetime) -> str:
    """Returns the entry of trustedKeys that retires a key now; `revoked: true` beside it takes the traffic away."""
    return json.dumps({"id": key.id, "key": key.key, "notAfter": timestamp(now), "own": True})
