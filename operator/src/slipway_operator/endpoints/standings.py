"""How models stand by all the judgements of them, told anew only where one of these came, went or changed.

A model that is judged every night has a thousand judgements in three years, which no pass may read, sort or parse again
to find that nothing happened. So what they come to is kept beside the cache's mark of them.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

from slipway_core.protocol import trust
from slipway_core.protocol.statement import JudgedGate, Statement
from slipway_core.protocol.trust import Flaw, Held, Standing, TrustedKey
from slipway_core.resources.conditions import Blocker
from slipway_core.resources.status import ParityStatus
from slipway_core.rollout.judged import MANY_JUDGEMENTS, judged_by
from slipway_core.rollout.observed import Judged
from slipway_operator import names
from slipway_operator.cache.world import World
from slipway_operator.common import verdict_reader
from slipway_operator.common.signing_keys import SigningKeys
from slipway_operator.common.verdict_reader import Looked, VerdictReader
from slipway_operator.endpoints.parity_records import record_in
from slipway_operator.kube.cluster import Cluster
from slipway_operator.kube.kinds import CONFIG_MAP
from slipway_operator.kube.manifest import at, labels
from slipway_operator.manifests.run.verdict_config_map import STATEMENT_KEY

MOST: Final = 2000
"""Judgements of one model that are read: five years of nights. Each is read and verified once by a process, of whoever
may make ConfigMaps that bear the label."""
MANY: Final = MOST * 8 // 10
"""From so many on the endpoint says that it is going to be too many."""
_KEPT: Final = 4096
_COMPARES: Final = '"maxRegression"'


class Known(NamedTuple):
    """What the judgements of a model come to."""

    names: tuple[str, ...]
    """Of their records."""
    standing: Standing
    judged: Judged
    """By what it was judged that passed."""
    parity: ParityStatus | None
    """The record of parity that the statement names which counts, where a judgement says where that lies."""


class _Kept(NamedTuple):
    mark: int
    keys: Sequence[TrustedKey]
    known: Known


@dataclass
class Standings:
    cluster: Cluster
    world: World
    records: VerdictReader
    keys: SigningKeys
    _kept: OrderedDict[tuple[str, str], _Kept] = field(default_factory=OrderedDict[tuple[str, str], _Kept])

    async def of(self, namespace: str, digest: str) -> Known:
        """Returns how a model stands by all the statements on it in a namespace. Raises ClusterError."""
        keys = await self.keys.trusted()
        # Before anything is read: what changes meanwhile is found by the next pass.
        mark = self.world.mark(namespace, names.DIGEST, names.digest_label(digest))
        kept = self._kept.get((namespace, digest))
        if kept is None or kept.mark != mark or kept.keys is not keys:
            kept = _Kept(mark, keys, await self._find(namespace, digest))
            self._kept[namespace, digest] = kept
        self._kept.move_to_end((namespace, digest))
        if len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        return kept.known

    async def many(self, namespace: str, digests: Iterable[str]) -> Blocker | None:
        """Returns what to say of the model that has the most judgements, where it has nearly as many as are read, or
        more. Raises ClusterError."""
        count, digest = max(
            [(len((await self.of(namespace, digest)).names), digest) for digest in sorted(digests)], default=(0, "")
        )
        if count < MANY:
            return None
        if count > MOST:
            return Blocker(MANY_JUDGEMENTS, "TooMany", _too_many(count, namespace, digest))
        message = (
            f"there are {count} judgements of {digest}, and no new version of it starts once there are more than "
            f"{MOST}: have it judged less often, or {_remove(namespace, digest)}"
        )
        return Blocker(MANY_JUDGEMENTS, "SoonTooMany", message)

    async def passing(self, namespace: str, digest: str, signed_by: str | None) -> str | None:
        """Returns the envelope of a statement by which a model passed: the newest that this key signed, else the newest
        of any that is trusted. None where there is none. Raises ClusterError.

        However many there are: what is live has to come back, and is asked for seldom.
        """
        own, keys = self._names(namespace, digest), await self.keys.trusted()
        found = [(name, (await self.records.look(namespace, name, digest)).found.held) for name in own]
        held = [(one.key.id == signed_by, one.order, name) for name, one in found if one is not None and one.passed]
        for _, _, name in sorted(held, reverse=True):
            text = at(await self.cluster.get(CONFIG_MAP, namespace, name), "data").get(STATEMENT_KEY)
            # It is read once more, and may be another one by now.
            again = trust.opened(str(text), digest, keys, namespace=namespace)
            if again.held is not None and again.held.passed:
                return again.text
        return None

    def _names(self, namespace: str, digest: str) -> tuple[str, ...]:
        """Returns the names of the records that judgements of a model have."""
        found = self.world.judgements(namespace, names.digest_label(digest))
        own = sorted(str(one["metadata"]["name"]) for one in found if labels(one).get(names.ROLE) == "verdict")
        return tuple(name for name in own if name != names.verdict(digest))

    async def _find(self, namespace: str, digest: str) -> Known:
        own = self._names(namespace, digest)
        if len(own) > MOST:
            flawed = Standing(flaw=Flaw.UNREADABLE, why=_too_many(len(own), namespace, digest))
            return Known(own, flawed, Judged(), None)
        looked = [await self.records.look(namespace, name, digest) for name in own]
        standing = trust.stand([one.found for one in looked], digest)
        if standing.at_fault is not None:
            # Somebody has to find it among others.
            standing = replace(standing, why=f"{standing.why} (ConfigMap {own[standing.at_fault]})")
        parity = await self._parity(namespace, own, standing)
        return Known(own, standing, judged_by(passes(looked)), parity)

    async def _parity(self, namespace: str, own: Sequence[str], standing: Standing) -> ParityStatus | None:
        """The digest of the record is signed; where it lies is not, and a server finds another one out."""
        newest = standing.newest
        if newest is None or (signed := newest.statement.predicate.parity) is None:
            return None
        judged = newest.statement.predicate
        first = names.judgement(newest.statement.digest, judged.run.uid, judged.evaluation)
        for name in sorted(own, key=lambda name: name != first):
            if (found := record_in(await self.records.read(namespace, name), signed=signed)) is not None:
                return found
        return None


def passes(looked: Sequence[Looked]) -> list[Statement]:
    """Returns the statements by which a model passed, the last of each run, the newest last; of their gates what each
    asked. Of those that asked the same, of the same live version where that matters, the newest alone: every night's
    says it again, and each text of gates is parsed once. One in which the model's own code ran stands for no other."""
    asked = {id(one.found.held): one.gates for one in looked if one.found.held is not None}
    last = trust.last_judgements([one.found.held for one in looked if one.found.held is not None])
    kept: dict[tuple[str, str | None, bool | None], Held] = {}
    for held in last:
        if held.passed:
            text, judged = asked[id(held)], held.statement.predicate
            which = text, judged.baseline if _COMPARES in text else None, judged.remote_code
            kept.pop(which, None)
            kept[which] = held
    parsed = {text: verdict_reader.gates_of(text) for text in {text for text, *_ in kept}}
    return [_with_gates(held.statement, parsed[text]) for (text, *_), held in kept.items()]


def _with_gates(statement: Statement, gates: list[JudgedGate]) -> Statement:
    predicate = statement.predicate.model_copy(update={"gates": gates})
    return statement.model_copy(update={"predicate": predicate})


def _too_many(count: int, namespace: str, digest: str) -> str:
    return (
        f"there are {count} judgements of {digest}, and {MOST} are the most that are read; {_remove(namespace, digest)}"
    )


def _remove(namespace: str, digest: str) -> str:
    return (
        "have somebody with the verb restore on trainingruns remove old ones whose runs are gone: `kubectl get "
        f"configmaps -n {namespace} -l {names.DIGEST}={names.digest_label(digest)}`"
    )
