"""Our two kinds between the API server's JSON and the models of core."""

from __future__ import annotations

import json
from typing import TypeVar

from pydantic import ValidationError

from slipway_core.resources.api import Api
from slipway_core.resources.model_endpoint import ModelEndpoint
from slipway_core.resources.training_run import TrainingRun
from slipway_operator.kube.manifest import Manifest, at

Kind = TypeVar("Kind", bound=Api)


class UnreadableError(ValueError):
    """A stored object that these models do not take: written under another version of the CRDs. It names the field."""


def run(manifest: Manifest) -> TrainingRun:
    """Raises UnreadableError."""
    return _parse(TrainingRun, manifest)


def endpoint(manifest: Manifest) -> ModelEndpoint:
    """Raises UnreadableError."""
    return _parse(ModelEndpoint, manifest)


def with_status(manifest: Manifest, status: Api) -> Manifest:
    """Returns the object with another status; all of the rest is as it is stored, what we do not know included."""
    return {**manifest, "status": status.to_document()}


def _parse(model: type[Kind], manifest: Manifest) -> Kind:
    try:
        # As JSON: strict models take words for enumerations there, and an integer for a number.
        return model.model_validate_json(json.dumps(manifest), by_alias=True, by_name=False)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            what = "is not known to this operator: a newer version wrote it; upgrade the operator or take the field out"
        else:
            what = f"is not as this operator knows it ({first['msg']}): upgrade the operator or mend the field"
        name = at(manifest, "metadata").get("name")
        raise UnreadableError(f"{model.__name__} {name}: {where} {what}") from None
