"""Where the pods of a run or an endpoint may go, what is written on them, and how their images are had.

What the resource leaves out is the chart's, field by field.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from slipway_core.resources.compute import Compute
from slipway_core.resources.model_endpoint import EndpointTemplate
from slipway_operator.kube.manifest import Manifest
from slipway_operator.settings import PodDefaults

Placed = Compute | EndpointTemplate


def placement(wanted: Placed, defaults: PodDefaults, pull_secrets: Sequence[str]) -> Manifest:
    """Returns fields of a pod's spec. All steps of a run get the same: a claim may be reached from one node alone."""
    pod: Manifest = {}
    selector = defaults.node_selector if wanted.node_selector is None else wanted.node_selector
    tolerations = defaults.tolerations if wanted.tolerations is None else wanted.tolerations
    priority = wanted.priority_class_name or defaults.priority_class_name
    if selector:
        pod["nodeSelector"] = dict(selector)
    if tolerations:
        pod["tolerations"] = [toleration.to_document() for toleration in tolerations]
    if priority:
        pod["priorityClassName"] = priority
    if pull_secrets:
        pod["imagePullSecrets"] = [{"name": secret} for secret in pull_secrets]
    return pod


def metadata(wanted: Placed, defaults: PodDefaults, own: Mapping[str, str]) -> Manifest:
    """Returns the metadata of a pod: `own` are the labels by which it is known."""
    labels = defaults.pod_labels if wanted.pod_labels is None else wanted.pod_labels
    annotations = defaults.pod_annotations if wanted.pod_annotations is None else wanted.pod_annotations
    found: Manifest = {"labels": {**labels, **own}}
    return {**found, "annotations": dict(annotations)} if annotations else found
