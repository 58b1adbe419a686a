"""What was judged on this machine, signed by a key of the state folder: which statements there are, and what counts.

The key finds accidents: a model that is not the one that was judged, a verdict of another one, a file that is damaged.
It does not keep out whoever owns this machine, who can read it.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from slipway.local.state import State, StateError
from slipway_core.lifecycle.judgement import judgement_statement
from slipway_core.plan import Plan
from slipway_core.protocol import envelope, parity, trust
from slipway_core.protocol.signing import SEED_BYTES, KeyFormatError, SigningKey
from slipway_core.protocol.trust import Flaw, Held, Standing, StatementError, TrustedKey, TrustError
from slipway_core.resources.status import EndpointStatus, ParityStatus, RunStatus
from slipway_core.rollout.observed import Proof
from slipway_core.rollout.proof import prove
from slipway_host.files import write_atomically

_Stamps = tuple[tuple[str, int, int, int], ...]


class KeyLostError(StateError):
    """There is no key to sign with, and a new one would take the place of one that somebody may still have."""


@dataclass
class Statements:
    state: State
    _standings: dict[str, tuple[_Stamps, Standing]] = field(default_factory=dict[str, tuple[_Stamps, Standing]])
    """What was found last of a digest, and of which files."""
    _keys: tuple[_Stamps, tuple[TrustedKey, ...]] | None = None

    # ------------------------------------------------------------------------------------------------ what counts

    def trusted(self) -> tuple[TrustedKey, ...]:
        """Returns the keys that are trusted here. Raises StateError for a list that cannot be used."""
        stamps = _stamps([self.state.trusted_keys])
        if self._keys is None or self._keys[0] != stamps:
            self._keys = stamps, read_keys(self.state.trusted_keys) if stamps else ()
        return self._keys[1]

    def standing(self, digest: str) -> Standing:
        """Returns how a model stands, by the files as they are now. Raises StateError."""
        files = sorted(self.state.statements(digest).glob("*.json"))
        stamps = _stamps([self.state.trusted_keys, *files])
        known = self._standings.get(digest)
        if known is None or known[0] != stamps:
            texts = [path.read_text(encoding="utf-8", errors="replace") for path in files]
            known = stamps, at_its_file(trust.standing(texts, digest, self.trusted()), files)
            self._standings[digest] = known
        return known[1]

    def proofs(self, digests: set[str], status: EndpointStatus, now: datetime) -> Mapping[str, Proof]:
        """Returns which of these models may start on an endpoint. Raises StateError."""
        return {digest: prove(self.standing(digest), digest, status, now) for digest in digests}

    def parity(self, digests: set[str]) -> Mapping[str, ParityStatus]:
        """Returns the records by which servers of these models prove themselves, as far as statements name them and
        they are there. Raises StateError."""
        found: dict[str, ParityStatus] = {}
        for digest in digests:
            newest = self.standing(digest).newest
            known = newest.statement.predicate.parity if newest is not None else None
            if known is not None and (path := self.state.parity(known)).exists():
                found[digest] = ParityStatus(uri=f"file://{path.resolve()}", digest=known)
        return found

    # ------------------------------------------------------------------------------------------------ what is signed

    def keep(self, plan: Plan, status: RunStatus, training: Callable[[], Mapping[str, str]], record: Path) -> bool:
        """Signs what a status says of its model, whatever that is, and keeps it; once for each evaluation, and again
        where the key is trusted no more that signed it.

        Args:
            training: returns the digest of what each stage learned from, by `<stage>/<split>`.
            record: of parity, as the evaluation wrote it. It is kept by its digest, for longer than the run lives.

        Returns whether it was signed again.

        Raises KeyLostError, or StateError for a key that cannot be used.
        """
        evaluation = status.evaluation
        if evaluation is None or evaluation.artifact_digest is None:
            return False
        if evaluation.parity_digest is not None:
            self._keep_record(record, evaluation.parity_digest)
        folder = self.state.statements(evaluation.artifact_digest)
        path = folder / f"{plan.run.uid[:8]}-{evaluation.number}.json"
        again = path.exists()
        if again and not self._outlived(path):
            return False
        statement = judgement_statement(plan, status, training=training())
        if statement is None:
            return False
        text = envelope.seal(statement, self.signing_key())
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(path, text)
        return again

    def _keep_record(self, record: Path, digest: str) -> None:
        """One that is missing or another one is not kept: the endpoint says what follows from that."""
        path = self.state.parity(digest)
        if path.exists():
            return
        content = record.read_bytes() if record.exists() else b""
        if parity.digest_of(content) == digest:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, content)

    def _outlived(self, path: Path) -> bool:
        """Whether a statement's key is none of those that sign now. The run's status says by itself what was judged."""
        try:
            held = trust.open_statement(path.read_text(encoding="utf-8", errors="replace"), self.trusted())
        except StatementError as error:
            return error.flaw in (Flaw.UNTRUSTED_KEY, Flaw.KEY_REVOKED, Flaw.KEY_RETIRED)
        return held.key.retired(datetime.now().astimezone())

    def signing_key(self) -> SigningKey:
        """Returns the key that signs here. It is made where there is none, and none was there before.

        Raises KeyLostError, or StateError for a key that cannot be used.
        """
        path = self.state.signing_key
        if not path.exists():
            try:
                self._require_no_other_key()
            except KeyLostError:
                if not path.exists():
                    raise  # Else another judgement has made it since we looked.
            else:
                _create_private(path, SigningKey(secrets.token_bytes(SEED_BYTES)).pem)
        try:
            key = SigningKey.parse(path.read_text(encoding="utf-8", errors="replace"))
        except KeyFormatError as error:
            raise StateError(f"{path}: {error}, or put the one that was there back") from None
        self._require_trusted(key)
        return key

    def _require_no_other_key(self) -> None:
        """A key whose public half is still trusted, or that signed what lies here, may be in a backup: a new one in its
        place would hide that it is lost."""
        now = datetime.now().astimezone()
        trusted = [key.id for key in self.trusted() if not key.revoked and not key.retired(now)]
        path = self.state.signing_key
        if trusted:
            raise KeyLostError(
                f"{path}: the key {trusted[0]!r} that signs verdicts is missing; put it back, or set its notAfter in "
                f"{self.state.trusted_keys} to a time that is over, and a new one is made"
            )
        if not self.state.trusted_keys.exists() and any(self.state.all_statements.glob("*/*.json")):
            raise KeyLostError(
                f"{path}: the key that signed the verdicts in {self.state.all_statements} is missing; put it back, or "
                "remove that folder: a new key is made then, and models that are not live have to be judged again"
            )

    def _require_trusted(self, key: SigningKey) -> None:
        public, path = key.public, self.state.trusted_keys
        known = self.trusted()
        own = next((one for one in known if one.key == public.text), None)
        now = datetime.now().astimezone()
        if own is None and (not known or all(one.revoked or one.retired(now) for one in known)):
            write_atomically(path, _readable([*known, TrustedKey.of(public)]))
            return
        if own is None:
            raise StateError(
                f"{path}: does not list the key {public.id!r} of {self.state.signing_key}; add "
                f"{trust.dump([TrustedKey.of(public)])[1:-1]}"
            )
        if own.id != public.id:
            raise StateError(f"{path}: the key of {self.state.signing_key} is called {own.id!r}; call it {public.id!r}")
        if own.revoked or own.retired(now):
            what = "revoked" if own.revoked else "retired"
            raise StateError(
                f"{self.state.signing_key}: the key {own.id!r} is {what} by {path}; move the file away, and a new key "
                "is made"
            )


def at_its_file(standing: Standing, files: Sequence[Path]) -> Standing:
    """Returns how a model stands, with the file that is at fault: nothing starts while that lies there."""
    if standing.at_fault is None:
        return standing
    return replace(standing, why=f"{files[standing.at_fault]}: {standing.why}")


def read_keys(path: Path) -> tuple[TrustedKey, ...]:
    """Reads a file of trusted keys: a JSON list of {"id", "key", "notAfter", "revoked"}. Raises StateError."""
    try:
        return trust.keys_of(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise StateError(f"{path}: there is no such file of trusted keys") from None
    except (TrustError, UnicodeDecodeError) as error:
        raise StateError(f"{path}: {error}; it is a list of objects with id and key") from None


def frozen_statement(path: Path, digest: str, keys: tuple[TrustedKey, ...], newest: Standing) -> str:
    """Returns the statement by which a version is served, and keeps it beside the version.

    The one that it started with, where that still holds: a later judgement takes no traffic from a version that is
    live. Else the newest.

    Raises StateError where neither holds.
    """
    text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    if text and _holds(text, digest, keys) is not None:
        return text
    if not newest.passed:
        raise StateError(newest.why)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, newest.text)
    return newest.text


def _holds(text: str, digest: str, keys: tuple[TrustedKey, ...]) -> Held | None:
    try:
        return trust.check(text, digest, keys)
    except StatementError:
        return None


def _readable(keys: list[TrustedKey]) -> str:
    return "[\n  " + ",\n  ".join(trust.dump([key])[1:-1] for key in keys) + "\n]\n"


def _create_private(path: Path, text: str) -> None:
    """Makes a file that its owner alone can read, whole or not at all; one that somebody else made meanwhile stays."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(temporary, path)
        except FileExistsError:
            return
    finally:
        temporary.unlink(missing_ok=True)


def _stamps(paths: list[Path]) -> _Stamps:
    found: list[tuple[str, int, int, int]] = []
    for path in paths:
        try:
            stat = path.stat()
        except FileNotFoundError:
            continue
        found.append((path.name, stat.st_mtime_ns, stat.st_size, stat.st_ino))
    return tuple(found)
