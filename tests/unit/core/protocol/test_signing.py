from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from slipway_core.protocol.signing import KeyFormatError, PublicKey, SigningKey

# RFC 8032, section 7.1, TEST 2.
SEED = bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb")
PUBLIC = bytes.fromhex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c")
SIGNATURE = bytes.fromhex(
    "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
)


def test_it_is_the_ed25519_of_the_rfc() -> None:
    key = SigningKey(SEED)
    assert key.public.raw == PUBLIC
    assert key.sign(b"\x72") == SIGNATURE
    assert key.public.holds(b"\x72", SIGNATURE)
    assert not key.public.holds(b"\x73", SIGNATURE)
    assert not key.public.holds(b"\x72", SIGNATURE[:-1])


def test_a_private_key_is_read_as_it_was_written_and_openssl_reads_it_too(tmp_path: Path) -> None:
    key = SigningKey(SEED)
    assert SigningKey.parse(key.pem) == key
    (tmp_path / "key.pem").write_text(key.pem)
    public = subprocess.run(
        ["openssl", "pkey", "-in", tmp_path / "key.pem", "-pubout"], capture_output=True, text=True, check=True
    ).stdout
    assert public.split("\n")[1] == key.public.text


def test_its_seed_is_not_shown() -> None:
    assert repr(SEED) not in repr(SigningKey(SEED))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nonsense",
        PUBLIC.hex(),
        SigningKey(SEED).public.text[:-4],
        SigningKey(SEED).public.text + "\n",
        "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE" + "A" * 88,
    ],
)
def test_what_is_no_public_key_is_refused_with_what_one_looks_like(text: str) -> None:
    with pytest.raises(KeyFormatError, match="MCowBQYDK2VwAyEA"):
        PublicKey.parse(text)


def test_what_is_no_private_key_is_refused_with_what_makes_one() -> None:
    for text in ("", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", SigningKey(SEED).public.text):
        with pytest.raises(KeyFormatError, match="openssl genpkey"):
            SigningKey.parse(text)


def test_whoever_only_reads_the_contract_does_not_import_the_library() -> None:
    code = (
        "import sys, slipway_core.protocol.trust, slipway_core.lifecycle.judgement;"
        "sys.exit('cryptography' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
