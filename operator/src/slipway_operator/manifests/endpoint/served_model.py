"""How a model gets into a serving pod: its claim is mounted, or an init container fetches it."""

from __future__ import annotations

from dataclasses import dataclass

from slipway_core.resources import pod_security, uris
from slipway_core.resources.status import VersionStatus
from slipway_operator.kube.manifest import Manifest
from slipway_operator.manifests.errors import ManifestError
from slipway_operator.manifests.pod import credentials, environment, scratch
from slipway_operator.manifests.pod.credentials import Source

MODEL = "/model"
VOLUME = "model"


@dataclass(frozen=True)
class ModelParts:
    """What a pod template gets so that the model is at /model."""

    volume: Manifest
    mount: Manifest
    fetch: Manifest | None = None
    """The init container."""


def model_parts(version: VersionStatus, *, image: str, pull_policy: str, resources: Manifest) -> ModelParts:
    """Returns the model's part of a pod.

    Args:
        version: its uri, digest and credentials.
        image: that has `slipway-fetch`.
        pull_policy: of the image.
        resources: requests and limits of the init container.

    Raises ManifestError for a URI that means nothing on a cluster.
    """
    uri = uris.parse(version.uri)
    mount = {"name": VOLUME, "mountPath": MODEL, "readOnly": True}
    if uri.scheme == "pvc":
        claim = {"claimName": uri.authority, "readOnly": True}
        return ModelParts(
            volume={"name": VOLUME, "persistentVolumeClaim": claim}, mount={**mount, "subPath": uri.path.strip("/")}
        )
    if not uri.remote:
        raise ManifestError(
            "UriOnCluster",
            f"model.uri: {version.uri} is not to be had on a cluster; copy the artifact to a claim and name it as "
            "pvc://CLAIM/PATH, or to an object store",
        )
    fetch = {**_fetch(version, image, pull_policy), "resources": resources}
    return ModelParts(volume={"name": VOLUME, "emptyDir": {}}, mount=mount, fetch=fetch)


def _fetch(version: VersionStatus, image: str, pull_policy: str) -> Manifest:
    secrets = credentials.container_part([Source(version.uri, version.credentials)])
    return {
        "name": "fetch",
        "image": image,
        "imagePullPolicy": pull_policy,
        "command": ["slipway-fetch"],
        "args": ["--uri", version.uri, "--digest", version.digest, "--to", MODEL],
        "env": [*environment.values(scratch.variables()), *secrets["env"]],
        "envFrom": secrets["envFrom"],
        "securityContext": pod_security.container_security(),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [{"name": VOLUME, "mountPath": MODEL}, *scratch.mounts()],
    }
