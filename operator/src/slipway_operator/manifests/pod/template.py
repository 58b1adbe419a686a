"""What the chart adds to a pod under the name that its run or endpoint picks; what is ours stays as it is."""

from __future__ import annotations

from collections.abc import Mapping

from slipway_core.resources.compute import Compute
from slipway_operator.kube.manifest import Manifest, items
from slipway_operator.manifests.errors import ManifestError
from slipway_operator.manifests.pod.placement import Placed
from slipway_operator.pod_templates import PodTemplate
from slipway_operator.settings import PodDefaults

UNKNOWN = "PodTemplateUnknown"
"""Reason of the error."""
_OF_STORES = ("AWS_", "GOOGLE_")
"""How variables begin that a Secret of an object store sets: `env` of a container would win over it."""


def chosen(wanted: Placed, defaults: PodDefaults) -> PodTemplate | None:
    """Returns the template that a resource picks; None where it picks none.

    Raises ManifestError for a name that the chart does not have.
    """
    name, known = wanted.pod_template, sorted(defaults.pod_templates)
    if name is None:
        return None
    if name in defaults.pod_templates:
        return defaults.pod_templates[name]
    trains = isinstance(wanted, Compute)
    field, values = ("compute.", "training") if trains else ("", "serving")
    raise ManifestError(
        UNKNOWN,
        f"{field}podTemplate: {name!r} is none of defaults.{values}.podTemplates of Slipway's chart, which has "
        f"{', '.join(known) or 'none'}; name one of these, leave it out, or have it added there",
    )


def applied(pod: Manifest, template: PodTemplate | None, labels: Mapping[str, str]) -> Manifest:
    """Returns the spec of a pod with what a template adds to it.

    `labels` are those by which the pods are known that are to be spread.
    """
    if template is None:
        return pod
    fields: Manifest = {
        "serviceAccountName": template.service_account_name,
        "runtimeClassName": template.runtime_class_name,
        "affinity": template.affinity,
        "topologySpreadConstraints": [
            {"labelSelector": {"matchLabels": dict(labels)}, **one} for one in template.topology_spread_constraints
        ],
    }
    own = {**pod, **{name: value for name, value in fields.items() if value}}
    for name in ("initContainers", "containers"):
        if name in pod:
            own[name] = [_container(one, template) for one in items(pod, name)]
    return {**own, "volumes": [*items(pod, "volumes"), *(dict(volume) for volume in template.volumes)]}


def _container(container: Manifest, template: PodTemplate) -> Manifest:
    ours = {one["name"] for one in items(container, "env")}
    secrets = bool(items(container, "envFrom"))
    more = [
        variable
        for variable in template.to_manifests("env")
        if variable["name"] not in ours and not (secrets and variable["name"].startswith(_OF_STORES))
    ]
    mounts = template.to_manifests("volume_mounts")
    return {
        **container,
        "env": [*items(container, "env"), *more],
        "volumeMounts": [*items(container, "volumeMounts"), *mounts],
    }
