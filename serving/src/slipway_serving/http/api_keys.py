"""Bearer keys from a file, read again when the file changes, so that keys rotate without a restart."""

from __future__ import annotations

import hashlib
import hmac
import logging
import time
from collections.abc import Callable
from pathlib import Path

logger = logging.getLogger(__name__)

# A key is checked on every request: look at the file's stamp at most this often.
_LOOK_EVERY_SECONDS = 1.0


class ApiKeysError(Exception):
    """The file of keys cannot be read, or holds no key."""


def _read(path: Path) -> frozenset[bytes]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is not UTF-8 text"
        raise ApiKeysError(f"--api-keys-file {path}: {reason}. Give a text file with one key a line.") from None
    lines = (line.strip() for line in text.splitlines())
    keys = frozenset(_hash(line) for line in lines if line and not line.startswith("#"))
    if not keys:
        raise ApiKeysError(f"--api-keys-file {path}: holds no key. Write one key a line; lines with # are comments.")
    return keys


def bearer(authorization: str | None) -> str | None:
    """Returns the key of an Authorization header, None when it has none."""
    scheme, _, key = (authorization or "").partition(" ")
    return key if scheme.lower() == "bearer" else None


def _hash(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()


class ApiKeys:
    """The keys that a file holds now. Only their hashes are kept in memory.

    A file that becomes unreadable or empty later leaves the last good keys in force, with one warning: a rotation
    that is half written must not lock everybody out, nor let anybody in.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        """Reads the file. Raises ApiKeysError."""
        self._path = path
        self._clock = clock
        self._stamp = self._stamp_now()
        self._keys = _read(path)
        self._looked = clock()

    def owner(self, presented: str | None) -> str | None:
        """Returns a name for whoever has this key, None when it is no valid one.

        All keys are compared, each in constant time, so the time taken says nothing about any of them.
        """
        self._refresh()
        digest = _hash((presented or "").strip())
        found = False
        for known in self._keys:
            found |= hmac.compare_digest(digest, known)
        return digest.hex() if found else None

    def _refresh(self) -> None:
        now = self._clock()
        if now - self._looked < _LOOK_EVERY_SECONDS:
            return
        self._looked = now
        stamp = self._stamp_now()
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._keys = _read(self._path)
            logger.info("API keys read again: %d", len(self._keys))
        except ApiKeysError as error:
            logger.warning("%s The keys read before stay valid.", error)

    def _stamp_now(self) -> tuple[int, int, int] | None:
        # The inode too: a mounted Secret changes by a link that is swapped, within the same second and size.
        try:
            status = self._path.stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_size, status.st_ino
