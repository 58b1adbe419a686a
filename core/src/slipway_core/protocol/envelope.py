"""A statement with its signature: DSSE v1 (https://github.com/secure-systems-lab/dsse/blob/master/protocol.md).

What is signed is not the JSON around it but a type and bytes, each with its length, so that nothing is parsed before
the signature was found good.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field, ValidationError

from slipway_core.protocol.signing import SigningKey
from slipway_core.protocol.statement import Stated, Statement, canonical
from slipway_core.protocol.strict_json import require_strict

PAYLOAD_TYPE = "application/vnd.in-toto+json"
ENVELOPE_LIMIT = 96 * 1024
"""Bytes. A ConfigMap holds ten of them, and a variable of a process one (Linux: 128 KiB)."""


class EnvelopeError(ValueError):
    """A text is no signed statement. The message says what it is instead."""


class Signature(Stated):
    keyid: Annotated[str, Field(min_length=1, max_length=63)]
    """Says which of the trusted keys to try, and proves nothing."""
    sig: Annotated[str, Field(max_length=128)]


class _Envelope(Stated):
    payload: str
    payload_type: str
    signatures: Annotated[list[Signature], Field(min_length=1, max_length=1)]


@dataclass(frozen=True)
class Sealed:
    """An envelope as it was read; nothing about it is known to hold."""

    payload: bytes
    payload_type: str
    key_id: str
    signature: bytes

    @property
    def signed(self) -> bytes:
        return pre_authentication_encoding(self.payload_type, self.payload)


def pre_authentication_encoding(payload_type: str, payload: bytes) -> bytes:
    """Returns what is signed (PAE of the protocol)."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def seal(statement: Statement, key: SigningKey, key_id: str | None = None) -> str:
    """Returns the envelope as JSON with a line break. The same statement and key make the same text.

    Args:
        key_id: how those who trust the key call it; by its own digest when left out.

    Raises ValueError for a statement that would be longer than ENVELOPE_LIMIT.
    """
    payload = canonical(statement)
    signature = key.sign(pre_authentication_encoding(PAYLOAD_TYPE, payload))
    envelope = _Envelope(
        payload=_encode(payload),
        payload_type=PAYLOAD_TYPE,
        signatures=[Signature(keyid=key_id or key.public.id, sig=_encode(signature))],
    )
    text = envelope.model_dump_json(by_alias=True) + "\n"
    if len(text.encode()) > ENVELOPE_LIMIT:
        raise ValueError(f"a statement of {len(text.encode())} bytes is over the {ENVELOPE_LIMIT} that it may have")
    return text


def read(text: str) -> Sealed:
    """Raises EnvelopeError for what is no envelope with one signature."""
    if len(text) > ENVELOPE_LIMIT or len(text.encode(errors="surrogatepass")) > ENVELOPE_LIMIT:
        raise EnvelopeError(f"is longer than the {ENVELOPE_LIMIT} bytes that a statement may have")
    try:
        require_strict(text)
        found = _Envelope.model_validate_json(text, by_alias=True, by_name=False)
    except ValidationError as error:
        raise EnvelopeError(_first(error)) from None
    except ValueError as error:
        raise EnvelopeError(f"is no envelope: {error}") from None
    signature = found.signatures[0]
    return Sealed(
        _decode("payload", found.payload),
        found.payload_type,
        signature.keyid,
        _decode("signatures.0.sig", signature.sig),
    )


def statement_in(sealed: Sealed) -> Statement:
    """Reads the payload, whose signature the caller has found good. Raises EnvelopeError."""
    try:
        text = sealed.payload.decode()
        require_strict(text)
        return Statement.model_validate_json(text, by_alias=True, by_name=False)
    except ValidationError as error:
        raise EnvelopeError(f"says what this release does not understand: {_first(error)}") from None
    except ValueError as error:
        raise EnvelopeError(f"holds no statement: {error}") from None


def _first(error: ValidationError) -> str:
    first = error.errors()[0]
    return f"{'.'.join(str(part) for part in first['loc']) or 'the whole'}: {first['msg']}"


def _encode(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _decode(name: str, text: str) -> bytes:
    """Only one text may stand for the same bytes."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        data = None
    if data is None or _encode(data) != text:
        raise EnvelopeError(f"{name}: is no base64")
    return data
