"""What the records of judgements say. The cache has their metadata alone, so each version of one is read once.

Of a statement that was verified the figures are let go: a namespace may have thousands, and what counts is who signed
what about which model, and what its gates asked.
"""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from slipway_core.protocol import trust
from slipway_core.protocol.statement import JudgedData, JudgedGate, Statement, canonical
from slipway_core.protocol.trust import Flaw, Held, Opened, Standing, StatementError, TrustedKey
from slipway_operator import names
from slipway_operator.cache.world import World
from slipway_operator.common.signing_keys import SigningKeys
from slipway_operator.kube.cluster import Cluster
from slipway_operator.kube.kinds import CONFIG_MAP
from slipway_operator.kube.manifest import Manifest, Version, at, labels, version
from slipway_operator.manifests.run.verdict_config_map import (
    DIGEST_KEY,
    JUDGED_AT_KEY,
    PARITY_DIGEST_KEY,
    PARITY_URI_KEY,
    RUN_UID_KEY,
    STATEMENT_KEY,
    VERDICT_KEY,
)

_SHORT: Final = 100
"""Characters of a digest, and some more."""
_FIELDS: Final = {
    VERDICT_KEY: _SHORT,
    DIGEST_KEY: _SHORT,
    RUN_UID_KEY: _SHORT,
    JUDGED_AT_KEY: _SHORT,
    PARITY_DIGEST_KEY: _SHORT,
    PARITY_URI_KEY: 1024,
}
"""What is kept of a record, and how many characters at most."""
_NO_FIGURES: Final = dict.fromkeys(("value", "difference", "lower", "upper", "confidence", "clusters"))
_KEPT: Final = 4096
MOST: Final = 200
"""Judgements of one model that are read: a model is judged a few times, and each may have 96 KiB."""


class Looked(NamedTuple):
    """What was found of a statement, and by which keys."""

    version: Version
    digest: str
    keys: Sequence[TrustedKey]
    found: Opened
    judgement: str
    """What `judgement_digest` says of the statement: whether another one is of the same judgement. Empty where it does
    not hold."""
    gates: str
    """What the gates of a pass asked, as JSON: a tenth of the memory that they take as objects."""


@dataclass
class VerdictReader:
    cluster: Cluster
    world: World
    keys: SigningKeys
    _read: OrderedDict[tuple[str, str], tuple[Version, dict[str, str]]] = field(
        default_factory=OrderedDict[tuple[str, str], tuple[Version, dict[str, str]]]
    )
    _looked: OrderedDict[tuple[str, str], Looked] = field(default_factory=OrderedDict[tuple[str, str], Looked])

    async def read(self, namespace: str, name: str) -> dict[str, str]:
        """Returns what the record says: verdict, digest, run, time, record of parity, gates. Empty without one.

        Raises ClusterError.
        """
        known = self.world.get(CONFIG_MAP, namespace, name)
        if known is None:
            return {}
        found = self._read.get((namespace, name))
        if found is None or found[0] != version(known):
            there = await self.cluster.get(CONFIG_MAP, namespace, name)
            return {} if there is None else self.remember(there)
        self._read.move_to_end((namespace, name))
        return found[1]

    def remember(self, record: Manifest) -> dict[str, str]:
        """Takes a record as the API server gave it, with its data. Returns what it says."""
        metadata = record["metadata"]
        said = _short(at(record, "data"))
        self._read[metadata["namespace"], metadata["name"]] = version(record), said
        self._read.move_to_end((metadata["namespace"], metadata["name"]))
        if len(self._read) > _KEPT:
            self._read.popitem(last=False)
        return said

    # ------------------------------------------------------------------------------------------------- statements

    def judgements(self, namespace: str, digest: str) -> list[str]:
        """Returns the names of the records that judgements of a model have."""
        found = self.world.judgements(namespace, names.digest_label(digest))
        own = sorted(str(one["metadata"]["name"]) for one in found if labels(one).get(names.ROLE) == "verdict")
        return [name for name in own if name != names.verdict(digest)]

    async def standing(self, namespace: str, digest: str) -> Standing:
        """Returns how a model stands by all the statements on it in a namespace. Raises ClusterError."""
        own = self.judgements(namespace, digest)
        if len(own) > MOST:
            return Standing(
                flaw=Flaw.UNREADABLE,
                why=f"there are {len(own)} judgements of {digest}, and {MOST} are the most that are read; have "
                f"somebody with the verb restore on trainingruns remove old ones whose runs are gone: `kubectl get "
                f"configmaps -n {namespace} -l {names.DIGEST}={names.digest_label(digest)}`",
            )
        found = [(name, (await self.look(namespace, name, digest)).found) for name in own]
        standing = trust.stand([one for _, one in found], digest)
        if standing.newest is None and standing.flaw not in (None, *trust.ASIDE):
            # Somebody has to find it among others.
            name = next(name for name, one in found if one.error is not None and one.error.flaw is standing.flaw)
            return Standing(flaw=standing.flaw, why=f"{standing.why} (ConfigMap {name})")
        return standing

    async def look(self, namespace: str, name: str, digest: str) -> Looked:
        """Returns what the statement of a record comes to for a model, without its envelope. Raises ClusterError."""
        keys, known = await self.keys.trusted(), self.world.get(CONFIG_MAP, namespace, name)
        before = self._looked.get((namespace, name))
        if before is not None and known is not None and before[:3] == (version(known), digest, keys):
            self._looked.move_to_end((namespace, name))
            return before
        there = await self.cluster.get(CONFIG_MAP, namespace, name)
        return self._take(namespace, name, there, digest, keys)

    async def made(self, record: Manifest, digest: str) -> None:
        """Takes a record that this process has made, as the API server returned it. Raises ClusterError."""
        metadata = record["metadata"]
        self._take(metadata["namespace"], metadata["name"], record, digest, await self.keys.trusted())

    def _take(
        self, namespace: str, name: str, record: Manifest | None, digest: str, keys: Sequence[TrustedKey]
    ) -> Looked:
        if record is not None:
            self.remember(record)
        whole = self._opened(namespace, name, at(record, "data").get(STATEMENT_KEY), digest, keys)
        judgement = judgement_digest(whole.held.statement) if whole.held is not None else ""
        known = version(record) if record else ("", "")
        looked = Looked(known, digest, keys, _slim(whole), judgement, _asked(whole))
        self._looked[namespace, name] = looked
        self._looked.move_to_end((namespace, name))
        if len(self._looked) > _KEPT:
            self._looked.popitem(last=False)
        return looked

    async def passes(self, namespace: str, digest: str) -> list[Statement]:
        """Returns the statements by which a model passed, the last of each run, the newest last; of their gates what
        each asked. Raises ClusterError."""
        looked = [await self.look(namespace, name, digest) for name in self.judgements(namespace, digest)[:MOST]]
        gates = {id(one.found.held): one.gates for one in looked}
        last = trust.last_judgements([one.found.held for one in looked if one.found.held is not None])
        return [_with_gates(held.statement, gates[id(held)]) for held in last if held.passed]

    async def passing(self, namespace: str, digest: str, signed_by: str | None) -> str | None:
        """Returns the envelope of a statement by which a model passed: the newest that this key signed, else the newest
        of any that is trusted. None where there is none. Raises ClusterError.

        However many there are: what is live has to come back, and is asked for seldom.
        """
        own = self.judgements(namespace, digest)
        found = [(name, (await self.look(namespace, name, digest)).found.held) for name in own]
        held = [(one.key.id == signed_by, one.order, name) for name, one in found if one is not None and one.passed]
        for _, _, name in sorted(held, reverse=True):
            there = await self.cluster.get(CONFIG_MAP, namespace, name)
            text = at(there, "data").get(STATEMENT_KEY)
            # It is read once more, and may be another one by now.
            again = self._opened(namespace, name, text, digest, await self.keys.trusted())
            if again.held is not None and again.held.passed:
                return again.text
        return None

    def _opened(self, namespace: str, name: str, text: object, digest: str, keys: Sequence[TrustedKey]) -> Opened:
        if not isinstance(text, str):
            return Opened(error=StatementError(Flaw.UNREADABLE, f"the ConfigMap {name} has no statement; remove it"))
        return trust.opened(text, digest, keys, namespace=namespace)


def judgement_digest(statement: Statement) -> str:
    """Returns the SHA-256 of what a statement says of a judgement. Which release and image said it is left out: a later
    release makes the same of a status, and what an earlier one signed stays."""
    predicate = statement.predicate.model_copy(update={"versions": {}})
    return hashlib.sha256(canonical(statement.model_copy(update={"predicate": predicate}))).hexdigest()


def _slim(found: Opened) -> Opened:
    held = found.held
    if held is None:
        return Opened(error=found.error)
    predicate = held.statement.predicate.model_copy(update={"gates": [], "data": JudgedData(), "versions": {}})
    statement: Statement = held.statement.model_copy(update={"predicate": predicate})
    return Opened(Held(statement, held.key))


def _asked(found: Opened) -> str:
    """Returns what the gates of a pass asked, without their figures. What is left out is named, and not what is kept:
    a gate without a field that tells it from another one would answer for that."""
    if found.held is None or not found.held.passed:
        return "[]"
    gates = [one for one in found.held.statement.predicate.gates if one.asked is not None]
    told = [one.model_copy(update={"threshold": "", **_NO_FIGURES}).to_document() for one in gates]
    return json.dumps(told, ensure_ascii=False, separators=(",", ":"))


def _with_gates(statement: Statement, gates: str) -> Statement:
    told = [JudgedGate.model_validate_json(json.dumps(one), by_alias=True, by_name=False) for one in json.loads(gates)]
    predicate = statement.predicate.model_copy(update={"gates": told})
    return statement.model_copy(update={"predicate": predicate})


def _short(data: Manifest) -> dict[str, str]:
    return {name: str(data[name])[:longest] for name, longest in _FIELDS.items() if name in data}
