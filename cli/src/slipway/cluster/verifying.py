"""Whether a model in a claim of a cluster is the one that was judged: hashed there, and held against what its operator
signed."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slipway.cluster import client_settings
from slipway.cluster.kubectl import ClusterError, Forbidden, Kubectl, NotFound
from slipway.cluster.pods import helper_pod
from slipway.cluster.pods.helper_pod import HelperPod
from slipway.exit_codes import BadInput
from slipway.records.verification import Finding
from slipway_core.protocol import trust
from slipway_core.protocol.trust import Standing, TrustedKey, TrustError
from slipway_core.protocol.workspace import WORKSPACE_MOUNT
from slipway_core.resources import labels, uris

STATEMENT = "statement"
"""Key of a judgement's ConfigMap."""
TRUSTED = "trusted.json"
"""Keys of the ConfigMap that has the operator's key, and all that it trusts."""
_LIFETIME = 4 * 3600
"""Seconds: a terabyte takes half an hour of a core."""
_SCRIPT = """\
import json, sys, time
from pathlib import Path
from slipway_core.protocol import artifact
begun = time.monotonic()
try:
    made = artifact.verify(Path(sys.argv[1]), sys.argv[2] or None)
    size = sum(entry.size for entry in made.files.values())
    said = {"digest": made.digest, "files": len(made.files), "bytes": size}
except artifact.ArtifactError as error:
    said = {"problem": str(error)}
print(json.dumps({**said, "seconds": time.monotonic() - begun}))
"""
"""Hashes where the model lies, by the code that servers hash with, and sends what it found and none of the bytes."""


@dataclass(frozen=True)
class Wanted:
    """What is to be verified, and by what."""

    what: str
    """As it was named."""
    uri: str
    digest: str | None
    """That it must have; None takes what the manifest says."""
    keys: Sequence[TrustedKey] | None = None
    """None: those that the operator trusts."""
    statements: Sequence[str] | None = None
    """None: those of the namespace about the model."""


def verify(kubectl: Kubectl, wanted: Wanted, say: Callable[[str], None]) -> Finding:
    """Hashes a model in a pod that mounts its claim, and looks for the statement about it.

    Raises BadInput for a model that lies in no claim, and ClusterError.
    """
    place = uris.parse(wanted.uri)
    if place.scheme != "pvc":
        raise BadInput(
            f"{wanted.what}: its model is {wanted.uri}, in no claim of the cluster; `slipway verify {wanted.uri} --key "
            "FILE --statement FILE` fetches and verifies it here"
        )
    keys = trusted_keys(kubectl) if wanted.keys is None else tuple(wanted.keys)
    said = _hashed(kubectl, place.authority, Path(WORKSPACE_MOUNT, place.path.strip("/")), wanted.digest, say)
    if "problem" in said:
        return Finding(wanted.what, wanted.digest, problem=str(said["problem"]))
    digest = str(said["digest"])
    texts = statements(kubectl, digest).values() if wanted.statements is None else wanted.statements
    found = [trust.opened(text, digest, keys, namespace=kubectl.namespace) for text in texts]
    standing = trust.stand(found, digest)
    if not texts:
        standing = Standing(
            why=f"{standing.why} in namespace {kubectl.namespace}; name its file with --statement, or have a run "
            "judge the model"
        )
    return Finding(
        wanted.what, digest, int(said["files"]), int(said["bytes"]), float(said["seconds"]), len(texts), standing
    )


def statements(kubectl: Kubectl, digest: str) -> dict[str, str]:
    """Returns the signed judgements of a model in a namespace, by their ConfigMaps' names. Raises ClusterError."""
    chosen = {labels.ROLE: "verdict", labels.DIGEST: labels.digest_label(digest)}
    found = kubectl.list("configmaps", labels=chosen)
    return {one["metadata"]["name"]: one["data"][STATEMENT] for one in found if STATEMENT in one.get("data", {})}


def trusted_keys(kubectl: Kubectl) -> tuple[TrustedKey, ...]:
    """Returns the keys that the operator trusts. Raises ClusterError where it does not tell this user."""
    try:
        place = client_settings.operator_place(kubectl)
        if place is None or place.trusted_keys is None:
            raise ClusterError("this cluster's chart does not say where the trusted keys are; name them with --key")
        record = kubectl.in_namespace(place.namespace).get("configmap", place.trusted_keys)
    except NotFound as error:
        raise ClusterError(f"{error}: the operator has signed nothing yet; name trusted keys with --key") from None
    except Forbidden as error:
        raise Forbidden(f"{error}: this user may not read the trusted keys; name them with --key") from None
    try:
        return trust.keys_of(str(record.get("data", {}).get(TRUSTED, "")))
    except TrustError as error:
        raise ClusterError(f"ConfigMap {place.trusted_keys}: {error}; name trusted keys with --key") from None


def _hashed(
    kubectl: Kubectl, claim: str, folder: Path, digest: str | None, say: Callable[[str], None]
) -> dict[str, Any]:
    command = ["--", "python", "-P", "-c", _SCRIPT, str(folder), digest or ""]
    reader = HelperPod("read", claim, writes=None, lifetime=_LIFETIME)
    with helper_pod.running(kubectl, reader, client_settings.read(kubectl), say) as pod:
        answer = kubectl.run("exec", pod, "--container", helper_pod.CONTAINER, *command, timeout="0")
    try:
        return json.loads(answer.splitlines()[-1])
    except (ValueError, IndexError):
        raise ClusterError(f"the pod that hashes said {answer[-200:]!r}, and not what it found") from None
