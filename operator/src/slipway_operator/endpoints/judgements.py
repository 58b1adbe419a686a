"""Which runs have judged models for an endpoint, and how often.

Of those that are there their own statuses say it, which nobody but the operator writes; of those that are gone the
statements that they left, so that a run which is deleted before its endpoint's next pass counts too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from slipway_core.protocol.trust import TrustedKey
from slipway_core.resources.status import EvaluationStatus
from slipway_core.rollout.observed import RunJudgements
from slipway_core.rollout.wear import judgements_told
from slipway_operator import names
from slipway_operator.cache.world import World
from slipway_operator.common.signing_keys import SigningKeys
from slipway_operator.common.verdict_reader import Looked, VerdictReader
from slipway_operator.kube.manifest import Manifest, at, items

NEWEST: Final = 256
"""Statements for an endpoint that are read: its status remembers what was counted before them."""

_Stated = tuple[int, Sequence[TrustedKey], tuple[RunJudgements, ...]]


@dataclass
class Judgements:
    world: World
    records: VerdictReader
    keys: SigningKeys
    _stated: dict[tuple[str, str], _Stated] = field(default_factory=dict[tuple[str, str], _Stated])
    """What the statements for an endpoint come to, with the cache's mark of them and the keys."""

    async def of(self, namespace: str, endpoint: str) -> tuple[RunJudgements, ...]:
        """Returns how often each run was judged, some of them twice: whoever counts takes what it did not know.

        Raises ClusterError.
        """
        told = (_judged(run) for run in self.world.runs_for(namespace, endpoint))
        return (*(one for one in told if one is not None), *await self._of_statements(namespace, endpoint))

    def forget(self, namespace: str, endpoint: str) -> None:
        """Lets go of an endpoint that is gone."""
        self._stated.pop((namespace, endpoint), None)

    async def _of_statements(self, namespace: str, endpoint: str) -> tuple[RunJudgements, ...]:
        keys = await self.keys.trusted()
        mark = self.world.mark(namespace, names.JUDGED_FOR, names.label(endpoint))
        known = self._stated.get((namespace, endpoint))
        if known is None or known[0] != mark or known[1] is not keys:
            found = self.world.judged_for(namespace, names.label(endpoint))
            newest = sorted(found, key=_came, reverse=True)[:NEWEST]
            looked = [await self.records.look(namespace, str(one["metadata"]["name"]), None) for one in newest]
            known = mark, keys, tuple(stated(looked, endpoint))
            self._stated[namespace, endpoint] = known
        return known[2]


def stated(looked: Iterable[Looked], endpoint: str) -> Iterable[RunJudgements]:
    """Yields the runs of statements that hold, by what is signed, whatever a label says.

    An evaluation that crashed names no data, and told nobody anything.
    """
    runs: dict[str, list[tuple[str, int, str]]] = {}
    for one in looked:
        held = one.found.held
        if held is not None and one.sketch and held.statement.predicate.endpoint == endpoint:
            said = held.statement.predicate
            runs.setdefault(said.run.uid, []).append((said.judged_at, said.evaluation, one.sketch))
    for uid, judged in sorted(runs.items()):
        since, _, sketch = max(judged)
        yield RunJudgements(uid, len(judged), since, sketch)


def _judged(run: Manifest) -> RunJudgements | None:
    """Returns the same as of a run that is read whole, which takes a hundred times as long."""
    status = at(run, "status")
    evaluation = at(status, "evaluation")
    ended = next((one.get("finishedAt") for one in items(status, "stages") if one.get("name") == "evaluate"), None)
    told = EvaluationStatus.model_construct(
        judgements=int(evaluation.get("judgements") or 0), data_digest=evaluation.get("dataDigest")
    )
    return judgements_told(run["metadata"]["uid"], told if evaluation else None, ended, status.get("heldOutSketch"))


def _came(record: Manifest) -> tuple[str, str]:
    metadata = record["metadata"]
    return str(metadata.get("creationTimestamp") or ""), str(metadata["name"])
