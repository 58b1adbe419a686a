"""Approving what waits at an endpoint: said first, then written as annotations, which a policy of the chart guards.

What is approved is what was shown: the annotations name the digest, the run and the evaluation that the endpoint's
status waits for, and the change applies to the endpoint as it was read or not at all.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from slipway.cluster.kubectl import ClusterError, Forbidden, Kubectl, NotFound
from slipway.cluster.resources import ENDPOINTS, RUNS, run_of
from slipway.exit_codes import BadInput
from slipway.records.gates import measured_on
from slipway_core.lifecycle.verdict import shown
from slipway_core.resources import conditions
from slipway_core.resources.model_endpoint import ModelEndpoint
from slipway_core.resources.promotion import AWAITING_APPROVAL, JUDGED, PROMOTION_CONDITIONS, held_by_verdict
from slipway_core.resources.status import AwaitingStatus, EndpointStatus, EvaluationStatus
from slipway_core.resources.training_run import TrainingRun
from slipway_core.rollout.promotion import (
    APPROVED_BY_ANNOTATION,
    APPROVED_DIGEST_ANNOTATION,
    APPROVED_EVALUATION_ANNOTATION,
    APPROVED_RUN_ANNOTATION,
    OWN_CODE,
)


def describe(kubectl: Kubectl, endpoint: ModelEndpoint) -> Iterator[str]:
    """Yields what waits at an endpoint and how it was judged, for whoever is to approve it.

    Raises BadInput where nothing waits.
    """
    awaiting = waits_at(endpoint)
    name, live = endpoint.metadata.name, endpoint.status and endpoint.status.live
    yield f"endpoint   {name} in {kubectl.title}"
    yield f"model      {awaiting.digest}"
    run = _run(kubectl, awaiting)
    evaluation = run.status.evaluation if run is not None and run.status is not None else None
    if evaluation is not None and (evaluation.artifact_digest, evaluation.number) == (
        awaiting.digest,
        awaiting.evaluation,
    ):
        yield f"judged by  {judge_of(awaiting)}: {evaluation.verdict.value}"
        yield from _figures(evaluation, live.digest if live is not None else None)
    elif awaiting.evaluation:
        gone = "its figures are not here: the run is gone, was judged again, or may not be seen by this user"
        yield f"judged by  {judge_of(awaiting)}; {gone}"
    else:
        # The endpoint says whether it failed, or was let through by an earlier release.
        judged = conditions.find(endpoint.status.conditions, JUDGED) if endpoint.status is not None else None
        known = judged.message if judged is not None else "the endpoint accepts it without a verdict"
        yield f"judged by  no run that counts: {known}"
    if _ran_own_code(endpoint, awaiting):
        yield f"beware     {OWN_CODE}"
    now = f"version {live.version} of run {live.run or '-'}, {live.digest}" if live is not None else "nothing"
    yield f"live now   {now}"


def approve(kubectl: Kubectl, endpoint: ModelEndpoint, digest: str) -> Iterator[str]:
    """Approves the model of this digest. Yields what was done, for a person.

    Raises BadInput where another model waits, and ClusterError where this user may not.
    """
    awaiting = waits_at(endpoint)
    if digest != awaiting.digest:
        raise BadInput(f"--digest {digest}: what waits at endpoint {endpoint.metadata.name} is {awaiting.digest}")
    user = _user(kubectl)
    notes = {
        APPROVED_BY_ANNOTATION: user,
        APPROVED_DIGEST_ANNOTATION: awaiting.digest,
        APPROVED_EVALUATION_ANNOTATION: str(awaiting.evaluation),
        # That of an earlier approval goes where no run is known.
        APPROVED_RUN_ANNOTATION: awaiting.run_uid,
    }
    change = {"metadata": {"annotations": notes, "resourceVersion": _version(kubectl, endpoint, awaiting)}}
    kubectl.patch(ENDPOINTS, endpoint.metadata.name, change)
    by = f", judged by {judge_of(awaiting)}" if awaiting.evaluation else ""
    yield f"approved as {user}: endpoint {endpoint.metadata.name} starts {awaiting.digest}{by}"


def waits_at(endpoint: ModelEndpoint) -> AwaitingStatus:
    """Returns what waits for an approval at an endpoint. Raises BadInput that says what is the matter where nothing
    does."""
    status = endpoint.status or EndpointStatus()
    if status.awaiting_approval is not None:
        return status.awaiting_approval
    name = endpoint.metadata.name
    for type_ in PROMOTION_CONDITIONS:
        if (found := conditions.find(status.conditions, type_)) is not None:
            raise BadInput(f"nothing can be approved at endpoint {name}: {found.message}")
    if endpoint.spec.promotion is None or endpoint.spec.promotion.mode != "Approval":
        raise BadInput(f"nothing is to be approved at endpoint {name}: it asks for no approval (spec.promotion.mode)")
    held = held_by_verdict(status.conditions)
    why = f"no new model waits there: {held}" if held is not None else "no new model waits there"
    raise BadInput(f"nothing is to be approved at endpoint {name}: {why}")


def judge_of(awaiting: AwaitingStatus) -> str:
    """Returns which evaluation it is: two runs, one after the other, may have one name."""
    uid = f" (uid {awaiting.run_uid})" if awaiting.run_uid is not None else ""
    return f"run {awaiting.run}{uid}, evaluation {awaiting.evaluation}"


def run_to_name(kubectl: Kubectl, endpoint: ModelEndpoint) -> str | None:
    """Returns the run whose judgement waits, where an approval can name it, and so be of no other one's."""
    awaiting = waits_at(endpoint)
    run = _run(kubectl, awaiting) if awaiting.run_uid is not None else None
    if run is None or run.spec.serving is None or run.spec.serving.endpoint != endpoint.metadata.name:
        return None
    artifact = run.status.artifact if run.status is not None else None
    return run.name if artifact is not None and artifact.digest == awaiting.digest else None


def _ran_own_code(endpoint: ModelEndpoint, awaiting: AwaitingStatus) -> bool:
    """Whether the model's own code ran where it was judged: an operator of a release before the field says so in the
    condition alone."""
    if awaiting.remote_code is not None:
        return awaiting.remote_code
    waits = conditions.find(endpoint.status.conditions, AWAITING_APPROVAL) if endpoint.status is not None else None
    return waits is not None and OWN_CODE in waits.message


def _figures(evaluation: EvaluationStatus, live: str | None) -> Iterator[str]:
    for one in evaluation.metrics:
        value = shown(one) if one.value is not None else "no value"
        yield f"           {one.title}: {value}, wanted {one.threshold}: {one.verdict.value}"
    yield from (f"           on {line}" for line in measured_on(evaluation.metrics))
    compared = evaluation.baseline_digest
    if compared is not None and compared != live:
        yield f"           it was compared with {compared}, which is not live any more"


def _run(kubectl: Kubectl, awaiting: AwaitingStatus) -> TrainingRun | None:
    """Returns the run that judged what waits; None where it is gone, whichever has its name by now."""
    if awaiting.run is None:
        return None
    try:
        run = run_of(kubectl.get(RUNS, awaiting.run))
    except (NotFound, Forbidden):
        return None
    return run if awaiting.run_uid in (None, run.metadata.uid) else None


def _user(kubectl: Kubectl) -> str:
    """Returns the name by which the API server knows this user."""
    found: Any = kubectl.json("auth", "whoami")
    user = found.get("status", {}).get("userInfo", {}).get("username")
    if not user:
        raise ClusterError(f"the cluster of context {kubectl.context} does not say who this user is")
    return str(user)


def _version(kubectl: Kubectl, endpoint: ModelEndpoint, awaiting: AwaitingStatus) -> str:
    """Returns the version of the endpoint at which that still waits."""
    document = kubectl.get(ENDPOINTS, endpoint.metadata.name)
    found = document.get("status", {}).get("awaitingApproval") or {}
    now = found.get("digest"), found.get("run"), found.get("runUid"), found.get("evaluation", 0)
    if now != (awaiting.digest, awaiting.run, awaiting.run_uid, awaiting.evaluation):
        raise BadInput(
            f"endpoint {endpoint.metadata.name} waits for another model or judgement by now; look at it again"
        )
    return str(document["metadata"].get("resourceVersion") or "")
