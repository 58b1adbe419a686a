"""The key that signs verdicts, and the keys that are trusted: made, read and told.

The one Secret that the operator reads or makes is its own, by its name, in its own namespace (invariant H). What it
holds is in memory while something is signed and no longer, and in no log.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from slipway_core.protocol import trust
from slipway_core.protocol.signing import SEED_BYTES, SigningKey
from slipway_core.protocol.trust import TrustedKey, TrustError
from slipway_operator import names
from slipway_operator.cache.world import World
from slipway_operator.common import signing_key
from slipway_operator.common.signing_key import SigningKeyError
from slipway_operator.kube.cluster import Cluster
from slipway_operator.kube.errors import AlreadyExists, ClusterError, Conflict, Forbidden
from slipway_operator.kube.kinds import CONFIG_MAP, MODEL_ENDPOINT, SECRET
from slipway_operator.kube.manifest import Manifest, at, items, labels
from slipway_operator.manifests.signing_key import OWN_KEY, PEM_KEY, signing_secret, trusted_keys
from slipway_operator.settings import Settings

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Found:
    key: SigningKey | ClusterError | SigningKeyError
    """Or why there is none."""
    asked: int
    """The last pass that had asked when the look began: those after it want a look of their own."""


@dataclass
class SigningKeys:
    """Of one process while it leads."""

    cluster: Cluster
    world: World
    settings: Settings
    clock: Callable[[], datetime]
    randomness: Callable[[int], bytes] = secrets.token_bytes
    _own: tuple[TrustedKey, ...] = ()
    """The public half of the key that signs here, as it was recorded, and those of the keys that did before."""
    _trusted: tuple[TrustedKey, ...] | None = None
    """What `trusted` returns: the same object until another key signs, so that whoever keeps what was found by these
    keys sees at once that they are the same."""
    _known: bool = False
    """Whether the record was looked for."""
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Two passes that find no key make one."""
    _asked: int = 0
    """How many times the key that signs was asked for."""
    _found: _Found | None = None
    """What the last look at that key found, while anybody waits for it."""
    _waiting: int = 0
    """Passes that have asked for it and have no answer yet."""

    async def trusted(self) -> tuple[TrustedKey, ...]:
        """Returns the keys that may have signed a verdict. Raises ClusterError."""
        if not self._known:
            async with self._turn:
                await self._look()
        if self._trusted is None:
            self._trusted = signing_key.with_own(self.settings.trusted_keys, self._own)
        return self._trusted

    async def signing(self) -> SigningKey:
        """Returns the key that signs. It is made where there is none, and none was there before; what is signed by it
        can be verified by whoever reads the record, which is written first.

        Raises SigningKeyError: it is lost, or may not sign. Raises ClusterError.
        """
        self._asked += 1
        mine = self._asked
        self._waiting += 1
        try:
            async with self._turn:
                # One look answers all that had asked when it began. One after the other they would be what runs that
                # end together wait for: two requests each, with all workers standing in line.
                if self._found is None or self._found.asked < mine:
                    asked = self._asked
                    try:
                        self._found = _Found(await self._usable(), asked)
                    except (ClusterError, SigningKeyError) as error:
                        self._found = _Found(error, asked)
                key = self._found.key
                if isinstance(key, SigningKey):
                    return key
                raise key.with_traceback(None)
        finally:
            self._waiting -= 1
            if not self._waiting:
                self._found = None

    async def _usable(self) -> SigningKey:
        await self._look()
        chart, now = self.settings.trusted_keys, self.clock()
        there = await self._secret()
        if there is not None:
            key = signing_key.usable(_pem(there), self._place, self._signs, chart, now)
        else:
            signing_key.require_none_before(self._place, self._signs, self._signers(), chart, now)
            key = SigningKey(self.randomness(SEED_BYTES))
            try:
                await self.cluster.create(signing_secret(key, self.settings.signing))
            except AlreadyExists:
                raise Conflict(f"the Secret {self._place} was made a moment ago; it is read again") from None
            _log.info("made the key %s that signs verdicts (Secret %s)", key.public.id, self._place)
        await self._tell(TrustedKey.of(key.public))
        return key

    async def _look(self) -> None:
        """Finds out once which key signs here. Who may not read that trusts the chart's keys alone."""
        if self._known:
            return
        place = self.settings.signing
        try:
            record = await self.cluster.get(CONFIG_MAP, place.namespace, place.keys)
            self._own = _recorded(record) or await self._unrecorded()
            if self._own or self.settings.trusted_keys:
                await self._write(record, self._own)
        except Forbidden as error:
            _log.warning("the keys by which verdicts count cannot be looked after: %s", error)
        self._known = True

    @property
    def _signs(self) -> TrustedKey | None:
        """The key that signs here, as it was recorded last."""
        return next(iter(self._own), None)

    async def _unrecorded(self) -> tuple[TrustedKey, ...]:
        """Returns the key of a process that ended before it had recorded it, or whose record somebody removed."""
        there = await self._secret()
        public = signing_key.public_of(_pem(there)) if there is not None else None
        return (TrustedKey.of(public),) if public is not None else ()

    async def _tell(self, own: TrustedKey) -> None:
        """Has the record say which key signs here, also where somebody removed it: whoever verifies reads it there."""
        place = self.settings.signing
        all_own = signing_key.followed_by(self._own, own)
        await self._write(await self.cluster.get(CONFIG_MAP, place.namespace, place.keys), all_own)
        if all_own != self._own:
            self._own, self._trusted = all_own, None

    async def _write(self, there: Manifest | None, own: Sequence[TrustedKey]) -> None:
        """Has the record say which keys count."""
        trusted = signing_key.with_own(self.settings.trusted_keys, own)
        wanted = trusted_keys(own, trusted, self.settings.signing)
        if there is None:
            await self.cluster.create(wanted)
        elif at(there, "data") != wanted["data"]:
            await self.cluster.replace({**there, "data": wanted["data"]})

    async def _secret(self) -> Manifest | None:
        place = self.settings.signing
        return await self.cluster.get(SECRET, place.namespace, place.secret)

    @property
    def _place(self) -> str:
        return f"{self.settings.signing.namespace}/{self.settings.signing.secret}"

    def _signers(self) -> dict[str, str]:
        """Returns the keys that signed what there is, each with where it is named."""
        found: dict[str, str] = {}
        for record in self.world.all(CONFIG_MAP):
            if (key := labels(record).get(names.SIGNED_BY)) is not None:
                found.setdefault(key, f"the ConfigMap {_address(record)}")
        for endpoint in self.world.all(MODEL_ENDPOINT):
            status = at(endpoint, "status")
            for version in (at(status, "live"), at(status, "candidate"), *items(status, "history")):
                if (key := version.get("signedBy")) is not None:
                    found.setdefault(str(key), f"the status of the endpoint {_address(endpoint)}")
        return found


def _recorded(record: Manifest | None) -> tuple[TrustedKey, ...]:
    text = at(record, "data").get(OWN_KEY)
    if text is None:
        return ()
    try:
        return trust.keys_of(str(text))
    except TrustError as error:
        _log.warning("the ConfigMap %s does not say which key signs here: %s", _address(record or {}), error)
        return ()


def _pem(secret: Manifest) -> str:
    """Returns the key as the Secret has it; an empty text where it has none that can be read."""
    data = at(secret, "data").get(PEM_KEY)
    try:
        return base64.b64decode(str(data), validate=True).decode() if data is not None else ""
    except (binascii.Error, UnicodeDecodeError):
        return ""


def _address(manifest: Manifest) -> str:
    metadata = at(manifest, "metadata")
    return f"{metadata.get('namespace')}/{metadata.get('name')}"
