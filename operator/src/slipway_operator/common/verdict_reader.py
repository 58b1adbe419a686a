"""What the records of judgements say. The cache has their metadata alone, so each version of one is read once.

Of a statement that was verified the figures are let go: a namespace may have thousands, and what counts is who signed
what about which model, and what its gates asked.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from slipway_core.protocol import trust
from slipway_core.protocol.statement import JudgedData, JudgedGate, Statement, canonical
from slipway_core.protocol.trust import Flaw, Held, Opened, StatementError, TrustedKey
from slipway_operator.cache.world import World
from slipway_operator.common.signing_keys import SigningKeys
from slipway_operator.kube.cluster import Cluster
from slipway_operator.kube.kinds import CONFIG_MAP
from slipway_operator.kube.manifest import Manifest, Version, at, version
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


class Looked(NamedTuple):
    """What was found of a statement, and by which keys."""

    version: Version
    keys: Sequence[TrustedKey]
    found: Opened
    judgement: str
    """What `judgement_digest` says of the statement: whether another one is of the same judgement. Empty where no
    trusted key signed it."""
    gates: str
    """What the gates of a pass asked, as JSON: a tenth of the memory that they take as objects, and one text for all
    judgements that asked the same."""
    sketch: str
    """The smallest hashes of the data that was judged upon. Empty where nobody signed which that was."""


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

    async def look(self, namespace: str, name: str, digest: str | None) -> Looked:
        """Returns what the statement of a record comes to for a model, without its envelope; whichever model it is
        about, where none is named. Raises ClusterError."""
        keys, known = await self.keys.trusted(), self.world.get(CONFIG_MAP, namespace, name)
        looked = self._looked.get((namespace, name))
        if looked is None or known is None or looked.version != version(known) or looked.keys is not keys:
            there = await self.cluster.get(CONFIG_MAP, namespace, name)
            looked = self._take(namespace, name, there, keys)
        self._looked.move_to_end((namespace, name))
        return _kept_for(looked, digest, namespace)

    async def made(self, record: Manifest) -> None:
        """Takes a record that this process has made, as the API server returned it. Raises ClusterError."""
        metadata = record["metadata"]
        self._take(metadata["namespace"], metadata["name"], record, await self.keys.trusted())

    def _take(self, namespace: str, name: str, record: Manifest | None, keys: Sequence[TrustedKey]) -> Looked:
        if record is not None:
            self.remember(record)
        whole = _unsealed(name, at(record, "data").get(STATEMENT_KEY), keys)
        judgement = judgement_digest(whole.held.statement) if whole.held is not None else ""
        known = version(record) if record else ("", "")
        looked = Looked(known, keys, _slim(whole), judgement, sys.intern(_asked(whole)), sys.intern(_sketch(whole)))
        self._looked[namespace, name] = looked
        self._looked.move_to_end((namespace, name))
        if len(self._looked) > _KEPT:
            self._looked.popitem(last=False)
        return looked


def _unsealed(name: str, text: object, keys: Sequence[TrustedKey]) -> Opened:
    if not isinstance(text, str):
        return Opened(error=StatementError(Flaw.UNREADABLE, f"the ConfigMap {name} has no statement; remove it"))
    return trust.unsealed(text, keys)


def _kept_for(looked: Looked, digest: str | None, namespace: str) -> Looked:
    held = looked.found.held
    if held is None:
        return looked
    found = trust.kept_for(looked.found, digest or held.statement.digest, namespace)
    return looked if found is looked.found else looked._replace(found=found)


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


def _sketch(found: Opened) -> str:
    """Returns the sketch of the data that was judged upon; an evaluation that crashed names none."""
    data = found.held.statement.predicate.data if found.held is not None else JudgedData()
    return "".join(data.sketch) if data.held_out else ""


def _asked(found: Opened) -> str:
    """Returns what the gates of a pass asked, without their figures. What is left out is named, and not what is kept:
    a gate without a field that tells it from another one would answer for that."""
    if found.held is None or not found.held.passed:
        return "[]"
    gates = [one for one in found.held.statement.predicate.gates if one.asked is not None]
    told = [one.model_copy(update={"threshold": "", **_NO_FIGURES}).to_document() for one in gates]
    return json.dumps(told, ensure_ascii=False, separators=(",", ":"))


def gates_of(text: str) -> list[JudgedGate]:
    """Returns what `Looked.gates` says."""
    return [JudgedGate.model_validate_json(json.dumps(one), by_alias=True, by_name=False) for one in json.loads(text)]


def _short(data: Manifest) -> dict[str, str]:
    return {name: str(data[name])[:longest] for name, longest in _FIELDS.items() if name in data}
