"""Which run an endpoint was last told to serve: a promotion writes it as annotations, and every later run reads it."""

from __future__ import annotations

from dataclasses import dataclass

from slipway_core.lifecycle.annotations import RETRY_ANNOTATION, RUN_CREATED_ANNOTATION, RUN_UID_ANNOTATION
from slipway_core.lifecycle.decision import Promote
from slipway_core.plan import Plan
from slipway_core.resources.model_endpoint import ModelEndpoint
from slipway_core.resources.training_run import TrainingRun


@dataclass(frozen=True)
class Claim:
    """The run that an endpoint was last told to serve."""

    run: str
    digest: str
    created: str = ""
    """creationTimestamp of that run, RFC 3339."""
    uid: str = ""


def claim_on(endpoint: ModelEndpoint) -> Claim | None:
    """Returns the claim on an endpoint; None where it was told no model."""
    model, notes = endpoint.spec.model, endpoint.metadata.annotations
    if model is None:
        return None
    created, uid = notes.get(RUN_CREATED_ANNOTATION, ""), notes.get(RUN_UID_ANNOTATION, "")
    return Claim(model.run or "", model.digest, created, uid)


def is_later(claim: Claim, run: TrainingRun, uid: str) -> bool:
    """Whether a claim is of a run that was created after this one, which has the endpoint then; the uid decides between
    equals."""
    return claim.run != run.name and (claim.created, claim.uid) > (run.metadata.creation_timestamp or "", uid)


def annotations_of(promote: Promote, run: TrainingRun, plan: Plan) -> dict[str, str]:
    """Returns what a promotion writes beside the model."""
    notes = {RUN_CREATED_ANNOTATION: run.metadata.creation_timestamp or "", RUN_UID_ANNOTATION: plan.run.uid}
    if promote.retry is not None:
        notes[RETRY_ANNOTATION] = promote.retry
    return notes
