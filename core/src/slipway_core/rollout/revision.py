"""What tells two versions of an endpoint apart."""

from __future__ import annotations

import hashlib
import json

from slipway_core.resources import uris
from slipway_core.resources.model_endpoint import EndpointTemplate, ServedModel


def revision_of(model: ServedModel, settings: EndpointTemplate) -> str:
    """Returns what tells two versions apart: the model, the Secret that it is fetched with, and every setting but those
    that apply in place.

    Settings that are at their default do not count, so that a release that adds one restarts nothing.
    """
    in_place = {"port", "replicas", "autoscaling", "rollout", "route", "model", "rollback_to", "promotion"}
    frozen = settings.model_dump(mode="json", by_alias=True, exclude_defaults=True, exclude=in_place)
    secret = secret_of(model)
    canonical = json.dumps([model.digest, frozen, *([secret] if secret else [])], sort_keys=True)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def secret_of(model: ServedModel) -> str | None:
    """Returns the Secret that a model is fetched with: the spec may still name that of another one."""
    return model.credentials if uris.parse(model.uri).remote else None
