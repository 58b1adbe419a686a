"""Where the pods of a run may go, and how their images are had."""

from __future__ import annotations

from collections.abc import Sequence

from slipway_core.resources.compute import Compute
from slipway_operator.kube.manifest import Manifest


def placement(compute: Compute, pull_secrets: Sequence[str]) -> Manifest:
    """Returns fields of a pod's spec. All steps of a run get the same: a claim may be reached from one node alone."""
    pod: Manifest = {}
    if compute.node_selector:
        pod["nodeSelector"] = dict(compute.node_selector)
    if compute.tolerations:
        pod["tolerations"] = [toleration.to_document() for toleration in compute.tolerations]
    if compute.priority_class_name is not None:
        pod["priorityClassName"] = compute.priority_class_name
    if pull_secrets:
        pod["imagePullSecrets"] = [{"name": secret} for secret in pull_secrets]
    return pod
