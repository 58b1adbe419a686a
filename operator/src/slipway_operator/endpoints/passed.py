"""Which models have passed their gates, as far as somebody says so who cannot be forged. Pure.

A verdict is kept as a ConfigMap, which whoever edits the namespace may be able to write. So it counts only together
with a status, which nobody but the operator writes: that of a run which passed with this model, or of an endpoint that
has started it as one that passed, or was told it while such a run was there, and remembers that when the run is gone.
"""

from __future__ import annotations

from slipway_core.resources.status import Verdict
from slipway_operator.cache.world import World
from slipway_operator.kube.kinds import MODEL_ENDPOINT, TRAINING_RUN
from slipway_operator.kube.manifest import Manifest, at, items


def is_proven(world: World, namespace: str, digest: str, endpoint: Manifest) -> bool:
    """Returns whether a status says that a model passed.

    Args:
        world: what there is.
        namespace: in which a verdict on it is kept.
        digest: of the model.
        endpoint: that wants to serve it, and is likely to remember it.
    """
    if _has_started(endpoint, digest):
        return True
    return any(_has_passed(run, digest) for run in world.all(TRAINING_RUN, namespace)) or any(
        _has_started(other, digest) for other in world.all(MODEL_ENDPOINT, namespace)
    )


def _has_passed(run: Manifest, digest: str) -> bool:
    evaluation = at(run, "status", "evaluation")
    return evaluation.get("verdict") == Verdict.PASS.value and evaluation.get("artifactDigest") == digest


def _has_started(endpoint: Manifest, digest: str) -> bool:
    status = at(endpoint, "status")
    versions = [at(status, "live"), at(status, "candidate"), *items(status, "history")]
    started = any(one.get("digest") == digest and not one.get("acceptUnjudged") for one in versions)
    return started or status.get("passed") == digest
