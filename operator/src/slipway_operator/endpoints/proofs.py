"""Which models an endpoint may serve, by the statements on them, and what their servers prove themselves by."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from slipway_core.protocol.commands import serve_environment
from slipway_core.protocol.trust import Flaw
from slipway_core.resources.model_endpoint import ModelEndpoint
from slipway_core.resources.status import EndpointStatus, ParityStatus, Verdict, VersionStatus
from slipway_core.rollout.observed import Judged, Proof
from slipway_core.rollout.proof import prove
from slipway_operator import names
from slipway_operator.cache.world import World
from slipway_operator.common.signing_keys import SigningKeys
from slipway_operator.common.verdict_reader import VerdictReader
from slipway_operator.endpoints.judged_since import not_passed_since
from slipway_operator.endpoints.parity_records import record_in, record_of
from slipway_operator.endpoints.standings import Standings
from slipway_operator.manifests.errors import ManifestError
from slipway_operator.manifests.run.verdict_config_map import DIGEST_KEY, VERDICT_KEY

_UNSIGNED = Proof(True)


@dataclass
class Proofs:
    world: World
    records: VerdictReader
    keys: SigningKeys
    standings: Standings
    clock: Callable[[], datetime]

    async def of(self, endpoint: ModelEndpoint, digests: Iterable[str]) -> Mapping[str, Proof]:
        """Returns which of these models may start on an endpoint, and by whose word. Raises ClusterError."""
        return {digest: await self._proof(endpoint, digest) for digest in sorted(digests)}

    async def revoked(self) -> frozenset[str]:
        """Returns the keys that are trusted no more. Raises ClusterError."""
        return frozenset(key.id for key in await self.keys.trusted() if key.revoked)

    async def parity(self, namespace: str, digests: Iterable[str]) -> Mapping[str, ParityStatus]:
        """Returns the records by which servers of models that passed prove themselves. Raises ClusterError."""
        found = {digest: await self._record(namespace, digest) for digest in digests}
        return {digest: record for digest, record in found.items() if record is not None}

    async def judged(self, namespace: str, digests: Iterable[str]) -> Mapping[str, Judged]:
        """Returns by what models were judged that passed, as signed statements say it. Raises ClusterError."""
        return {digest: (await self.standings.of(namespace, digest)).judged for digest in digests}

    async def judged_at(self, namespace: str, digest: str) -> str | None:
        """Returns when the judgement was made that counts; None where none is signed. Raises ClusterError."""
        newest = (await self.standings.of(namespace, digest)).standing.newest
        return newest.statement.predicate.judged_at if newest is not None else None

    async def environment(self, namespace: str, version: VersionStatus) -> Mapping[str, str]:
        """Returns the variables by which the server of a version finds that its model passed. None of one that was
        accepted without a verdict, or that an earlier release started.

        Raises ManifestError where no statement on its model holds any more, and ClusterError.
        """
        if version.signed_by is None:
            return {}
        text = await self.standings.passing(namespace, version.digest, version.signed_by)
        if text is None:
            raise ManifestError(
                "StatementMissing",
                f"version {version.version}: there is no signed pass on {version.digest} any more, and its server asks "
                f"for one; put its ConfigMap {names.verdict(version.digest)}-… back, or have a run judge the model "
                "again",
            )
        return serve_environment(text, await self.keys.trusted())

    async def _proof(self, endpoint: ModelEndpoint, digest: str) -> Proof:
        namespace, status = endpoint.metadata.namespace or "", endpoint.status or EndpointStatus()
        standing = (await self.standings.of(namespace, digest)).standing
        found = prove(standing, digest, status, self.clock())
        if found == _UNSIGNED:
            # The record of the release that let it through has to be there too, as that release had it.
            return found if await self._unsigned(namespace, digest) else Proof(False)
        newest = standing.newest
        if found.passes and newest is not None:
            later = not_passed_since(self.world, namespace, digest, newest.statement.predicate.judged_at)
            if later is not None:
                why = f"the run {later} has judged it since, and it did not pass; a model needs a pass to be served"
                return Proof(False, flaw=Flaw.NOT_PASSED, why=why)
        return found

    async def _record(self, namespace: str, digest: str) -> ParityStatus | None:
        """What a run's status says counts first, then what was left beside the verdict."""
        known = await self.standings.of(namespace, digest)
        newest = known.standing.newest
        if newest is None:
            unsigned = await self._unsigned(namespace, digest) or {}
            return record_of(self.world, namespace, digest) or record_in(unsigned)
        signed = newest.statement.predicate.parity
        if signed is None:
            return None
        return record_of(self.world, namespace, digest, signed=signed) or known.parity

    async def _unsigned(self, namespace: str, digest: str) -> dict[str, str] | None:
        """Returns the data of the passing verdict on exactly this artifact that a release wrote which signed none."""
        data = await self.records.read(namespace, names.verdict(digest))
        passed = data.get(DIGEST_KEY) == digest and data.get(VERDICT_KEY) == Verdict.PASS.value
        return data if passed else None
