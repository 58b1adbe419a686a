"""Whether a run has judged a model since a statement was made, by its status alone. Pure.

The newest judgement counts, and whoever may write ConfigMaps in a namespace may be able to remove one. A status is
written by nobody but the operator.
"""

from __future__ import annotations

from slipway_core.resources.status import StepState, Verdict
from slipway_operator.cache.world import World
from slipway_operator.kube.kinds import TRAINING_RUN
from slipway_operator.kube.manifest import at, items

_NO_REFUSAL = (Verdict.PASS.value, Verdict.NOT_APPLICABLE.value)
"""Where no gate applied nothing was said of the model."""
_OVER = (StepState.SUCCEEDED.value, StepState.FAILED.value)


def not_passed_since(world: World, namespace: str, digest: str, moment: str) -> str | None:
    """Returns a run that judged a model then or later, and did not let it pass; None where there is none.

    Args:
        world: what there is.
        namespace: of the runs.
        digest: of the model.
        moment: as the API server writes it.
    """
    for run in world.all(TRAINING_RUN, namespace):
        evaluation = at(run, "status", "evaluation")
        if evaluation.get("artifactDigest") != digest or evaluation.get("verdict") in _NO_REFUSAL:
            continue
        if evaluation.get("saysNothing") is True:
            continue
        for step in items(run, "status", "stages"):
            over = step.get("name") == "evaluate" and step.get("state") in _OVER
            if over and str(step.get("finishedAt") or "") >= moment:
                return str(run["metadata"]["name"])
    return None
