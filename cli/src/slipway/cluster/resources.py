"""From what kubectl prints to runs and endpoints, and back."""

from __future__ import annotations

import json
from typing import Any, TypeVar

from pydantic import ValidationError

from slipway.cluster.kubectl import ClusterError
from slipway_core.resources.api import Api
from slipway_core.resources.model_endpoint import ModelEndpoint
from slipway_core.resources.training_run import TrainingRun

RUNS = "trainingruns.slipway.dev"
ENDPOINTS = "modelendpoints.slipway.dev"

_Resource = TypeVar("_Resource", bound=Api)


def run_of(document: dict[str, Any]) -> TrainingRun:
    """Raises ClusterError when the resource is not as this version of Slipway knows it."""
    return _parsed(TrainingRun, document)


def endpoint_of(document: dict[str, Any]) -> ModelEndpoint:
    """Raises ClusterError when the resource is not as this version of Slipway knows it."""
    return _parsed(ModelEndpoint, document)


def _parsed(kind: type[_Resource], document: dict[str, Any]) -> _Resource:
    metadata = {key: value for key, value in document.get("metadata", {}).items() if key != "managedFields"}
    try:
        return kind.model_validate_json(json.dumps({**document, "metadata": metadata}), by_alias=True, by_name=False)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole"
        name = f"{document.get('kind', kind.__name__)} {metadata.get('name')}"
        raise ClusterError(
            f"{name}: {where}: {first['msg']}; the cluster and this command line are of different versions: "
            "install the same one here"
        ) from None
