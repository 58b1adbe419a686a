"""Runs and endpoints as an API server has them."""

from datetime import UTC, datetime

from tests.unit.cli.evidence import run_named

from slipway_core.resources.conditions import timestamp
from slipway_core.resources.status import Condition


def condition(type_, status, reason, message=""):
    since = timestamp(datetime.now(UTC))
    return Condition(type=type_, status=status, reason=reason, message=message, last_transition_time=since)


def run_document(status=None, *, created=None, **spec):
    """Returns the run tang with this status, and these fields of its spec."""
    document = run_named().to_document()
    document["metadata"]["creationTimestamp"] = timestamp(created or datetime.now(UTC))
    document["spec"].update(spec)
    return {**document, "status": status.to_document()} if status is not None else document


def endpoint_document(name, *, status=None, **spec):
    spec = {"replicas": 1, "model": {"uri": "pvc://a/b", "digest": "sha256:" + "a" * 64}, **spec}
    document = {"apiVersion": "slipway.dev/v1alpha1", "kind": "ModelEndpoint", "metadata": {"name": name}, "spec": spec}
    return {**document, "status": status} if status is not None else document
