"""By what a model was judged, as far as somebody says so who cannot be forged. Pure.

What runs say counts, whose status nobody but the operator writes: of each that passed with this model, so one that
judged it anew by stricter gates is enough. Where a run is gone, its verdict says what it asked; an admission policy
keeps others from writing one (and `spec.promotion` itself is kept by such a policy alone).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, cast

from pydantic import ValidationError

from slipway_core.resources.model_endpoint import ModelEndpoint
from slipway_core.resources.required_gates import PassedGate, passed_of
from slipway_core.resources.status import EndpointStatus, MetricStatus, Verdict
from slipway_core.rollout.observed import Judged
from slipway_operator.cache.world import World
from slipway_operator.kube.kinds import TRAINING_RUN
from slipway_operator.kube.manifest import Manifest, at, items
from slipway_operator.manifests.run.verdict_config_map import EVALUATION_NUMBER_KEY, GATES_KEY, RUN_KEY


def judged(world: World, endpoint: ModelEndpoint, digest: str, verdict: Mapping[str, str]) -> Judged:
    """Returns by what a model was judged that passed.

    Args:
        world: what there is.
        endpoint: that wants to serve it.
        digest: of the model.
        verdict: data of the ConfigMap that says that it passed; empty without one.
    """
    runs = sorted(
        (run for run in world.all(TRAINING_RUN, endpoint.metadata.namespace) if _passed(run, digest)), key=_age
    )
    told = [run for run in runs if run["metadata"]["name"] == _run_of(endpoint, digest)]
    speaker = next(reversed(told or runs), None)
    gates = [*(gate for run in runs for gate in _gates_of(run)), *_gates_in(verdict)]
    if speaker is not None:
        evaluation = at(speaker, "status", "evaluation").get("number")
        return Judged(speaker["metadata"]["name"], evaluation if isinstance(evaluation, int) else None, tuple(gates))
    number = verdict.get(EVALUATION_NUMBER_KEY, "")
    known = number.isascii() and number.isdecimal()
    return Judged(verdict.get(RUN_KEY), int(number) if known else None, tuple(gates))


def _run_of(endpoint: ModelEndpoint, digest: str) -> str | None:
    """Returns the run that the endpoint has the model of."""
    status, model = endpoint.status or EndpointStatus(), endpoint.spec.model
    named = [model, status.live, status.candidate, *status.history]
    return next((one.run for one in named if one is not None and one.digest == digest and one.run), None)


def _passed(run: Manifest, digest: str) -> bool:
    evaluation = at(run, "status", "evaluation")
    return evaluation.get("verdict") == Verdict.PASS.value and evaluation.get("artifactDigest") == digest


def _age(run: Manifest) -> tuple[str, str]:
    metadata = at(run, "metadata")
    return str(metadata.get("creationTimestamp") or ""), str(metadata.get("uid") or "")


def _gates_of(run: Manifest) -> list[PassedGate]:
    return passed_of(_metrics(items(run, "status", "evaluation", "metrics")))


def _gates_in(verdict: Mapping[str, str]) -> list[PassedGate]:
    try:
        found: Any = json.loads(verdict.get(GATES_KEY, "[]"))
    except (ValueError, RecursionError):
        return []
    return passed_of(_metrics(cast(list[Any], found))) if isinstance(found, list) else []


def _metrics(found: list[Any]) -> Iterator[MetricStatus]:
    """Yields what can be read: what a newer release says otherwise is not known, and answers nothing."""
    for one in found:
        if not isinstance(one, dict):
            continue
        try:
            said = {"threshold": "", **cast(dict[str, Any], one)}
            yield MetricStatus.model_validate_json(json.dumps(said), by_alias=True, by_name=False)
        except ValidationError:
            continue
