"""The records by which servers prove themselves: which there is of a model, as far as somebody says so. Pure.

The status of the run that judged it counts first, which nobody but the operator writes; where the run is gone, what the
verdict says that it left.
"""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import ValidationError

from slipway_core.protocol.workspace import parity_uri
from slipway_core.resources.status import ParityStatus, Verdict
from slipway_operator.cache.world import World
from slipway_operator.kube.kinds import TRAINING_RUN
from slipway_operator.kube.manifest import at
from slipway_operator.manifests.run.verdict_config_map import PARITY_DIGEST_KEY, PARITY_URI_KEY


def record_of(world: World, namespace: str, digest: str, *, signed: str | None = None) -> ParityStatus | None:
    """Returns the record of a model that passed, as a run says it that is there; None where none does, or where its
    evaluation left none that a pod can mount.

    Args:
        world: what there is.
        namespace: of the runs.
        digest: of the model.
        signed: digest of the record that a statement names; no other one counts then.
    """
    for run in world.all(TRAINING_RUN, namespace):
        evaluation = at(run, "status", "evaluation")
        number, left = evaluation.get("number"), evaluation.get("parityDigest")
        passed = evaluation.get("verdict") == Verdict.PASS.value and evaluation.get("artifactDigest") == digest
        if passed and isinstance(number, int) and left is not None and signed in (None, left):
            return _record(parity_uri(str(at(run, "status", "artifact").get("uri", "")), number), left)
    return None


def record_in(verdict: Mapping[str, str], *, signed: str | None = None) -> ParityStatus | None:
    """Returns the record that a verdict names.

    Args:
        verdict: data of its ConfigMap.
        signed: as above.
    """
    told = verdict.get(PARITY_DIGEST_KEY)
    return _record(verdict.get(PARITY_URI_KEY), told) if signed in (None, told) else None


def _record(uri: str | None, digest: object) -> ParityStatus | None:
    if uri is None or not uri.startswith("pvc://"):
        return None
    try:
        return ParityStatus.model_validate({"uri": uri, "digest": digest}, by_alias=True, by_name=False)
    except ValidationError:
        return None
