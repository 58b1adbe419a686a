"""Keys that sign what was judged, and keys that are trusted to: ed25519 (RFC 8032), by the library `cryptography`.

Pure: where a key lies, and where its seed comes from, is the executor's matter. The library is imported where it is
used, so that whoever only reads the contract does not pay for it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass, field

SEED_BYTES = 32
_PUBLIC_BYTES = 32
_SIGNATURE_BYTES = 64
_HEADER = bytes.fromhex("302a300506032b6570032100")
"""What stands before the 32 bytes of an ed25519 key in a SubjectPublicKeyInfo (RFC 8410, section 4)."""


class KeyFormatError(ValueError):
    """A text is no key of the kind that is used here. The message says what one looks like."""


@dataclass(frozen=True)
class PublicKey:
    raw: bytes
    """32 bytes."""

    @classmethod
    def parse(cls, text: str) -> PublicKey:
        """Reads what `str` writes: the line inside of a PEM file, as `openssl pkey -pubout` writes it. Raises
        KeyFormatError."""
        try:
            der = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            der = b""
        if len(der) != len(_HEADER) + _PUBLIC_BYTES or not der.startswith(_HEADER) or cls(der[-32:]).text != text:
            raise KeyFormatError(
                "is no public ed25519 key; write the one line of base64 between BEGIN and END PUBLIC KEY, which begins "
                "with MCowBQYDK2VwAyEA"
            )
        return cls(der[len(_HEADER) :])

    @property
    def text(self) -> str:
        return base64.b64encode(_HEADER + self.raw).decode()

    @property
    def id(self) -> str:
        """Returns how a key is called that nobody has named: the first 16 hexadecimal digits of its SHA-256."""
        return hashlib.sha256(self.raw).hexdigest()[:16]

    def holds(self, message: bytes, signature: bytes) -> bool:
        """Whether the signature is this key's over these bytes."""
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        if len(signature) != _SIGNATURE_BYTES:
            return False
        try:
            Ed25519PublicKey.from_public_bytes(self.raw).verify(signature, message)
        except (InvalidSignature, ValueError):  # ValueError: 32 bytes that are no point of the curve.
            return False
        return True


@dataclass(frozen=True)
class SigningKey:
    seed: bytes = field(repr=False)
    """32 bytes of randomness: all that there is to the key."""

    @classmethod
    def parse(cls, pem: str) -> SigningKey:
        """Reads what `pem` writes. Raises KeyFormatError."""
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        try:
            key = load_pem_private_key(pem.encode(), None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            key = None
        if not isinstance(key, Ed25519PrivateKey):
            raise KeyFormatError(
                "is no private ed25519 key without a password; make one with `openssl genpkey -algorithm ed25519`"
            )
        return cls(key.private_bytes_raw())

    @property
    def pem(self) -> str:
        """Returns the key as PKCS #8, which other programs read too."""
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

        key = Ed25519PrivateKey.from_private_bytes(self.seed)
        return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()

    @property
    def public(self) -> PublicKey:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        return PublicKey(Ed25519PrivateKey.from_private_bytes(self.seed).public_key().public_bytes_raw())

    def sign(self, message: bytes) -> bytes:
        """Returns the signature, 64 bytes. The same bytes have the same one, whenever they are signed."""
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        return Ed25519PrivateKey.from_private_bytes(self.seed).sign(message)
