"""Statements for tests, signed by keys that only tests have."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

from slipway_core.protocol import envelope
from slipway_core.protocol.envelope import PAYLOAD_TYPE, pre_authentication_encoding
from slipway_core.protocol.signing import SigningKey
from slipway_core.protocol.statement import JudgedData, JudgedGate, JudgedRun, Judgement, Statement
from slipway_core.protocol.trust import TrustedKey
from slipway_core.resources.status import Verdict

KEY = SigningKey(b"1" * 32)
OTHER_KEY = SigningKey(b"2" * 32)
TRUSTED = (TrustedKey.of(KEY.public),)
DIGEST = "sha256:" + "ab" * 32
OTHER_DIGEST = "sha256:" + "cd" * 32
PLAN = "sha256:" + "12" * 32


def judgement(verdict: Verdict = Verdict.PASS, **fields: Any) -> Judgement:
    gate = JudgedGate(metric="bits_per_byte", threshold="<= 4", verdict=verdict, value=3.5, lower=3.25, upper=3.75)
    given = {
        "run": JudgedRun(name="poems", uid="0123", namespace="team"),
        "plan": PLAN,
        "evaluation": 1,
        "judged_at": "2026-11-29T04:30:00Z",
        "verdict": verdict,
        "gates": [gate],
        "data": JudgedData(held_out="sha256:" + "34" * 32),
    }
    return Judgement(**{**given, **fields})


def sealed(verdict: Verdict = Verdict.PASS, *, digest: str = DIGEST, key: SigningKey = KEY, **fields: Any) -> str:
    return envelope.seal(Statement.about(digest, judgement(verdict, **fields)), key)


def altered(text: str, change: Callable[[dict[str, Any]], object]) -> str:
    """Returns the envelope with its outer JSON changed."""
    document = json.loads(text)
    change(document)
    return json.dumps(document)


def payload_of(text: str) -> dict[str, Any]:
    return json.loads(base64.b64decode(json.loads(text)["payload"]))


def with_payload(text: str, payload: bytes) -> str:
    """Returns the envelope with another payload and the old signature."""
    return altered(text, lambda document: document.update(payload=base64.b64encode(payload).decode()))


def signed_payload(payload: bytes, *, payload_type: str = PAYLOAD_TYPE, key: SigningKey = KEY) -> str:
    """Returns an envelope around any bytes, signed as a key's owner could."""
    signature = key.sign(pre_authentication_encoding(payload_type, payload))
    return json.dumps(
        {
            "payload": base64.b64encode(payload).decode(),
            "payloadType": payload_type,
            "signatures": [{"keyid": key.public.id, "sig": base64.b64encode(signature).decode()}],
        }
    )
