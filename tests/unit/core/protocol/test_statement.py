from __future__ import annotations

import base64
import json
import subprocess
from pathlib import Path

import pytest
from tests.unit.core.statements import DIGEST, KEY, TRUSTED, judgement, payload_of, sealed, signed_payload

from slipway_core.protocol import envelope, statement
from slipway_core.protocol.envelope import ENVELOPE_LIMIT, pre_authentication_encoding
from slipway_core.protocol.sketch import HASHES
from slipway_core.protocol.statement import (
    AskedOfIt,
    JudgeAgreement,
    JudgedBy,
    JudgedData,
    JudgedGate,
    Statement,
    canonical,
)
from slipway_core.protocol.trust import check
from slipway_core.resources.evaluation import Evaluation
from slipway_core.resources.status import AskedStatus, Verdict


def test_a_statement_is_one_of_in_toto() -> None:
    document = payload_of(sealed())
    assert document["_type"] == "https://in-toto.io/Statement/v1"
    assert document["predicateType"] == "https://slipway.dev/verdict/v1"
    assert document["subject"] == [{"name": "model", "digest": {"sha256": DIGEST.removeprefix("sha256:")}}]
    assert document["predicate"]["gates"][0]["upper"] == 3.75


def test_what_is_signed_is_the_encoding_of_dsse() -> None:
    # The example of the protocol's page.
    assert pre_authentication_encoding("http://example.com/HelloWorld", b"hello world") == (
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )


def test_openssl_finds_the_signature_good(tmp_path: Path) -> None:
    document = json.loads(sealed())
    payload = base64.b64decode(document["payload"])
    (tmp_path / "signed").write_bytes(pre_authentication_encoding(document["payloadType"], payload))
    (tmp_path / "signature").write_bytes(base64.b64decode(document["signatures"][0]["sig"]))
    (tmp_path / "key").write_text(f"-----BEGIN PUBLIC KEY-----\n{KEY.public.text}\n-----END PUBLIC KEY-----\n")
    command = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", "key", "-rawin", "-in", "signed"]
    subprocess.run([*command, "-sigfile", "signature"], cwd=tmp_path, check=True, capture_output=True)


def test_the_same_judgement_has_the_same_bytes() -> None:
    one = Statement.about(DIGEST, judgement())
    again = Statement.model_validate_json(canonical(one))
    assert canonical(again) == canonical(one)
    assert envelope.seal(one, KEY) == envelope.seal(again, KEY)
    assert b'": ' not in canonical(one)


def test_the_largest_statement_fits_where_it_has_to_go() -> None:
    (most,) = (one.max_length for one in Evaluation.model_fields["gates"].metadata)
    assert most <= statement.GATES_LIMIT
    gate = JudgedGate(
        metric="判" * statement.METRIC_LIMIT,
        threshold="判" * statement.THRESHOLD_LIMIT,
        verdict=Verdict.INCONCLUSIVE,
        value=-1.2345678901234567e-300,
        difference=-1.2345678901234567e-300,
        lower=-1.2345678901234567e-300,
        upper=-1.2345678901234567e-300,
        confidence=0.9999999999999999,
        clusters=10**9,
        source="s" * 63,
        slice="s" * 63,
        data=DIGEST,
        asked=AskedOfIt(
            max_regression=1.2345678901234567e-300, against="Live", min_tokens=10**9, confidence=0.9999999999999999
        ),
    )
    data = JudgedData(
        held_out=DIGEST,
        training={f"{number:02}{'s' * 63}/validation": DIGEST for number in range(statement.TRAINING_LIMIT)},
        sketch=["0123456789abcdef"] * HASHES,
    )
    text = sealed(
        Verdict.INCONCLUSIVE,
        gates=[gate] * most,
        data=data,
        reason="判" * statement.REASON_LIMIT,
        baseline=DIGEST,
        parity=DIGEST,
        judge=JudgedBy(
            model="判" * 256,
            url="判" * statement.URL_LIMIT,
            compare="Reference",
            repeats=16,
            criteria=DIGEST,
            agreement=JudgeAgreement(orders=1 / 3, repeats=1 / 3),
        ),
    )
    assert len(text.encode()) <= ENVELOPE_LIMIT
    assert envelope.read(text)


def test_what_would_be_too_long_is_not_signed() -> None:
    with pytest.raises(ValueError, match="is over the"):
        sealed(
            gates=[JudgedGate(metric="判" * 128, threshold="判" * 64, verdict=Verdict.PASS)] * statement.GATES_LIMIT,
            reason="判" * statement.REASON_LIMIT,
            data=JudgedData(training={f"{n}{'判' * 250}": "判" * 253 for n in range(statement.TRAINING_LIMIT)}),
        )


def test_a_judgement_that_says_no_data_of_its_gates_has_the_bytes_that_it_always_had() -> None:
    # What an earlier release signed is compared with what this one would sign.
    gate = payload_of(sealed())["predicate"]["gates"][0]
    assert gate == {
        "lower": 3.25,
        "metric": "bits_per_byte",
        "threshold": "<= 4",
        "upper": 3.75,
        "value": 3.5,
        "verdict": "Pass",
    }


def test_a_status_and_a_statement_say_the_same_of_what_a_gate_asked() -> None:
    asked = AskedStatus(max_regression=0.25, against="Base", min_tokens=7, confidence=0.9)
    assert AskedOfIt.of(asked).to_document() == asked.to_document()
    later = {**asked.to_document(), "mood": "good"}
    assert AskedStatus.model_validate(later).to_document() == later, "a status keeps what a later release wrote"
    assert AskedOfIt.model_validate(later) == AskedOfIt.of(asked), "a statement is deaf to it"


def test_a_field_of_a_later_release_is_left_aside() -> None:
    document = payload_of(sealed())
    document["predicate"]["mood"] = "good"
    document["predicate"]["gates"][0]["slice"] = "zh"
    document["subject"][0]["digest"]["sha512"] = "ef" * 64
    assert check(signed_payload(json.dumps(document).encode()), DIGEST, TRUSTED).passed
