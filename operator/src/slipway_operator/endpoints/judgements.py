"""Which runs have judged models for an endpoint, by their own statuses, which nobody but the operator writes. Pure."""

from __future__ import annotations

from slipway_core.resources.status import EvaluationStatus
from slipway_core.rollout.observed import RunJudgements
from slipway_operator.cache.world import World
from slipway_operator.kube.manifest import Manifest, at, items


def judgements_for(world: World, namespace: str, endpoint: str) -> tuple[RunJudgements, ...]:
    """Returns how often each run that is there was judged; of those that are gone the endpoint's status knows."""
    found = (_judged(run) for run in world.runs_for(namespace, endpoint))
    return tuple(one for one in found if one is not None)


def _judged(run: Manifest) -> RunJudgements | None:
    status = at(run, "status")
    evaluation = at(status, "evaluation")
    ended = [one.get("finishedAt") for one in items(status, "stages") if one.get("name") == "evaluate"]
    since, sketch = next(iter(ended), None), status.get("heldOutSketch")
    if not since or not sketch or not evaluation:
        return None
    told = EvaluationStatus.model_construct(
        judgements=int(evaluation.get("judgements") or 0), data_digest=evaluation.get("dataDigest")
    )
    return RunJudgements(str(run["metadata"]["uid"]), told.times_judged, str(since), str(sketch))
