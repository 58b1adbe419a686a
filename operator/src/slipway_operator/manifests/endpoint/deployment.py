"""The Deployment of one version of an endpoint, frozen: it is made once, and only its replicas change.

What it was made from is in an annotation, so that it can be made again when somebody deletes it, whatever the endpoint
says by then.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast

from pydantic import ValidationError

from slipway_core.protocol.commands import serve_command
from slipway_core.resources import pod_security
from slipway_core.resources.api import seconds
from slipway_core.resources.model_endpoint import Access, EndpointTemplate, ModelEndpoint
from slipway_core.resources.status import VersionStatus
from slipway_operator import names
from slipway_operator.kube.manifest import Manifest
from slipway_operator.manifests.endpoint import access
from slipway_operator.manifests.endpoint.metadata import endpoint_object
from slipway_operator.manifests.endpoint.parity_record import RecordParts, record_parts
from slipway_operator.manifests.endpoint.probes import probes
from slipway_operator.manifests.endpoint.served_model import MODEL, model_parts
from slipway_operator.manifests.pod import environment, placement, scratch, template
from slipway_operator.settings import Settings

CONTAINER = "server"
PORT = 8000
"""Of the container; the Service has the endpoint's own."""
KEYS_FOLDER = "/etc/slipway/keys"
KEYS_KEY = "keys"
_MARGIN_SECONDS = 15
"""Between the end of the drain and SIGKILL: what an engine takes to leave."""
_SHARED_MEMORY = "1Gi"


def version_deployment(
    endpoint: ModelEndpoint,
    version: VersionStatus,
    *,
    settings: Settings,
    replicas: int | None,
    statement: Mapping[str, str] | None = None,
) -> Manifest:
    """Returns the Deployment of a version with the settings that endpoint.spec has.

    Args:
        endpoint: as it is when the version is made, or as `as_frozen` returns it.
        version: its number, uri, digest, credentials, revision and record of parity; the rest changes nothing here.
        settings: of the operator.
        replicas: None leaves them to an autoscaler.
        statement: variables by which the server finds that its model passed (`commands.serve_environment`). They are
            part of the template, so that the version is let through by the same statement for as long as it is there.

    Raises ManifestError for access or a URI that cannot be had on a cluster, and for a pod template that is unknown.
    """
    access.check(endpoint.spec)
    labels = names.version_labels(endpoint.metadata.name, version.version)
    name = names.version(endpoint.metadata.name, version.version)
    manifest = endpoint_object("apps/v1", "Deployment", name, endpoint)
    manifest["metadata"]["labels"] = labels
    manifest["metadata"]["annotations"] = {names.FROZEN: _frozen(endpoint, version)}
    spec: Manifest = {
        "selector": {"matchLabels": labels},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
        "progressDeadlineSeconds": max(1, seconds(endpoint.spec.rollout.start_timeout)),
        "revisionHistoryLimit": 0,
        "template": {
            "metadata": placement.metadata(endpoint.spec, settings.serving, labels),
            "spec": _pod(endpoint, version, settings, labels, statement or {}),
        },
    }
    if replicas is not None:
        spec["replicas"] = replicas
    return {**manifest, "spec": spec}


def as_frozen(endpoint: ModelEndpoint, version: VersionStatus, frozen: str) -> ModelEndpoint | None:
    """Returns the endpoint with the settings that a version was made with; None when `frozen`, the annotation of a
    Deployment, is of another version."""
    try:
        found: Any = json.loads(frozen)
        made_of = cast(Manifest, found) if isinstance(found, dict) else {}
        if made_of["revision"] != version.revision:
            return None
        settings = EndpointTemplate.model_validate(made_of["settings"], by_alias=True, by_name=False)
        update = {name: getattr(settings, name) for name in EndpointTemplate.model_fields}
    except (ValueError, KeyError, ValidationError):
        return None
    return endpoint.model_copy(update={"spec": endpoint.spec.model_copy(update=update)})


def access_of(frozen: str) -> Access | None:
    """Returns whom a version was made to answer, by the annotation of its Deployment; None where that does not say."""
    try:
        found: Any = json.loads(frozen)
        return Access.model_validate(found["settings"].get("access", {}), by_alias=True, by_name=False)
    except (ValueError, LookupError, TypeError, AttributeError):
        return None


def scaled(deployment: Manifest, replicas: int) -> Manifest:
    """Returns a Deployment of the cluster as it was applied, with other replicas: all that may change in it."""
    metadata = deployment["metadata"]
    kept = ("name", "namespace", "labels", "annotations", "ownerReferences")
    own = {name: metadata[name] for name in kept if name in metadata}
    if names.FROZEN in metadata.get("annotations", {}):
        # The Deployment controller's own annotations stay its own.
        own["annotations"] = {names.FROZEN: metadata["annotations"][names.FROZEN]}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": own,
        "spec": {**deployment["spec"], "replicas": replicas},
    }


def _frozen(endpoint: ModelEndpoint, version: VersionStatus) -> str:
    """The settings in full: a default that a later release changes must not reach a version that runs."""
    spec = endpoint.spec
    template = EndpointTemplate(**{name: getattr(spec, name) for name in EndpointTemplate.model_fields})
    document = {
        "version": version.version,
        "uri": version.uri,
        "digest": version.digest,
        "revision": version.revision,
        "settings": template.to_document(),
    }
    return json.dumps(document, sort_keys=True, separators=(",", ":"))


def _pod(
    endpoint: ModelEndpoint,
    version: VersionStatus,
    settings: Settings,
    labels: dict[str, str],
    statement: Mapping[str, str],
) -> Manifest:
    spec = endpoint.spec
    model = model_parts(
        version,
        image=settings.images.serve,
        pull_policy=settings.images.pull_policy,
        resources=_of_the_node(_resources(spec, settings)),
    )
    record = record_parts(version.parity, model.volume)
    pod: Manifest = {
        **pod_security.no_cluster_access(),
        **placement.placement(spec, settings.serving, settings.images.pull_secrets),
        "terminationGracePeriodSeconds": _grace(spec, settings),
        "securityContext": pod_security.pod_security(),
        "containers": [_container(endpoint, version, settings, model.mount, record, statement)],
        "volumes": [model.volume, *record.volumes, *scratch.volumes(_SHARED_MEMORY), *_keys_volume(spec)],
        "topologySpreadConstraints": [_spread(labels)],
    }
    if model.fetch is not None:
        pod["initContainers"] = [model.fetch]
    return template.applied(pod, template.chosen(spec, settings.serving), labels)


def _container(
    endpoint: ModelEndpoint,
    version: VersionStatus,
    settings: Settings,
    model: Manifest,
    record: RecordParts,
    statement: Mapping[str, str],
) -> Manifest:
    spec = endpoint.spec
    keys = spec.access.keys_secret is not None
    command = serve_command(
        spec,
        model=MODEL,
        digest=version.digest,
        name=endpoint.metadata.name,
        host="0.0.0.0",
        port=PORT,
        parity=record.path,
        parity_digest=record.digest,
        keys_file=f"{KEYS_FOLDER}/{KEYS_KEY}" if keys else None,
        allow_anonymous=access.is_anonymous(spec),
        device=settings.serving.device,
        linger=seconds(settings.serving.linger),
    )
    return {
        "name": CONTAINER,
        "image": settings.images.serve,
        "imagePullPolicy": settings.images.pull_policy,
        "args": command,
        "env": environment.values({**scratch.variables(), **statement}),
        "ports": [{"name": "http", "containerPort": PORT}],
        "resources": _resources(spec, settings),
        "securityContext": pod_security.container_security(),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            model,
            *record.mounts,
            *scratch.mounts(),
            *([{"name": "keys", "mountPath": KEYS_FOLDER, "readOnly": True}] if keys else []),
        ],
        **probes(seconds(spec.rollout.start_timeout)),
    }


def _grace(spec: EndpointTemplate, settings: Settings) -> int:
    return seconds(settings.serving.linger) + seconds(spec.rollout.drain) + _MARGIN_SECONDS


def _resources(spec: EndpointTemplate, settings: Settings) -> Manifest:
    wanted = spec.resources or settings.serving.resources
    requests = {name: str(value) for name, value in wanted.requests.items()}
    limits = {name: str(value) for name, value in wanted.limits.items()}
    if settings.serving.accelerator is not None:
        requests.pop(settings.serving.accelerator, None)
        limits[settings.serving.accelerator] = str(spec.engine.tensor_parallel)
    return {"requests": requests, "limits": limits}


def _of_the_node(resources: Manifest) -> Manifest:
    """What the init container asks for: a quota wants it of each container, and the pod needs no more for it."""
    plain = ("cpu", "memory", "ephemeral-storage")
    return {kind: {name: amount for name, amount in some.items() if name in plain} for kind, some in resources.items()}


def _keys_volume(spec: EndpointTemplate) -> list[Manifest]:
    """The whole folder is mounted: a key that is added reaches the server, which a file alone (subPath) never would."""
    secret = spec.access.keys_secret
    return [{"name": "keys", "secret": {"secretName": secret}}] if secret is not None else []


def _spread(labels: dict[str, str]) -> Manifest:
    """Replicas on several nodes where there are several: the loss of one leaves the endpoint answering."""
    return {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": labels},
    }
