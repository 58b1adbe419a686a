"""The API server as a test speaks to it: manifests in and out, and the server's own words when it refuses."""

from __future__ import annotations

import base64
import json
import ssl
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

from slipway_operator.kube.kinds import ALL, Kind

Manifest = dict[str, Any]
_DEFINITION = Kind("apiextensions.k8s.io/v1", "CustomResourceDefinition", "customresourcedefinitions", namespaced=False)
VOLUME = Kind("v1", "PersistentVolume", "persistentvolumes", namespaced=False)
_KNOWN = {
    kind.kind: kind
    for kind in (
        *ALL,
        _DEFINITION,
        VOLUME,
        Kind("rbac.authorization.k8s.io/v1", "ClusterRole", "clusterroles", namespaced=False),
        Kind("rbac.authorization.k8s.io/v1", "ClusterRoleBinding", "clusterrolebindings", namespaced=False),
        Kind("rbac.authorization.k8s.io/v1", "Role", "roles"),
        Kind("rbac.authorization.k8s.io/v1", "RoleBinding", "rolebindings"),
        Kind("v1", "ServiceAccount", "serviceaccounts"),
        Kind("v1", "ReplicationController", "replicationcontrollers"),
        *(Kind("apps/v1", kind, f"{kind.lower()}s") for kind in ("ReplicaSet", "StatefulSet", "DaemonSet")),
        Kind("batch/v1", "CronJob", "cronjobs"),
        *(
            Kind("admissionregistration.k8s.io/v1", kind, plural, namespaced=False)
            for kind, plural in (
                ("ValidatingAdmissionPolicy", "validatingadmissionpolicies"),
                ("ValidatingAdmissionPolicyBinding", "validatingadmissionpolicybindings"),
            )
        ),
        Kind("v1", "ResourceQuota", "resourcequotas"),
        Kind("node.k8s.io/v1", "RuntimeClass", "runtimeclasses", namespaced=False),
        Kind("scheduling.k8s.io/v1", "PriorityClass", "priorityclasses", namespaced=False),
    )
}


@dataclass(frozen=True)
class Cause:
    """One reason why the API server refused an object."""

    field: str
    message: str


class Refused(Exception):
    """The API server said no; `causes` are its reasons."""

    def __init__(self, status: Manifest) -> None:
        super().__init__(status.get("message", ""))
        self.code = int(status.get("code", 0))
        self.reason = status.get("reason", "")
        found = (status.get("details") or {}).get("causes") or []
        self.causes = [Cause(cause.get("field", ""), cause.get("message", "")) for cause in found]


class ApiClient:
    """One identity at one API server. Every method raises Refused."""

    def __init__(self, kubeconfig: Path, *, acts_as: str = "", groups: tuple[str, ...] = ()) -> None:
        """With `acts_as`, the identity of the kubeconfig acts as that user."""
        document = yaml.safe_load(kubeconfig.read_text())
        cluster, user = document["clusters"][0]["cluster"], document["users"][0]["user"]
        self.server: str = cluster["server"]
        other = [("Impersonate-User", acts_as)] if acts_as else []
        other += [("Impersonate-Group", group) for group in groups]
        self._http = httpx.Client(
            headers=other,
            base_url=self.server,
            verify=tls_of(cluster, user),
            timeout=30,
            limits=httpx.Limits(max_connections=32),
        )

    def get(self, kind: Kind, namespace: str | None, name: str) -> Manifest | None:
        """Returns the object; None when there is none."""
        try:
            return self._call("GET", kind.path(namespace, name))
        except Refused as refused:
            if refused.code == 404:
                return None
            raise

    def list(self, kind: Kind, namespace: str | None = None, selector: str = "") -> list[Manifest]:
        answer = self._call("GET", kind.path(namespace), params={"labelSelector": selector, "resourceVersion": "0"})
        return answer["items"]

    def versions(self, kind: Kind, namespace: str) -> list[Manifest]:
        """Returns every version that there was of the objects of a kind since their namespace was made, in order."""
        made = self._call("GET", f"/api/v1/namespaces/{namespace}")["metadata"]["resourceVersion"]
        params = {"watch": "1", "resourceVersion": made, "timeoutSeconds": "1"}
        with self._http.stream("GET", kind.path(namespace), params=params) as answer:
            return [json.loads(line)["object"] for line in answer.iter_lines() if line]

    def watch(self, kind: Kind, namespace: str) -> Iterator[Manifest]:
        """Yields each object that there is, and each new version of one, without end."""
        while True:
            with self._http.stream("GET", kind.path(namespace), params={"watch": "1"}, timeout=None) as answer:
                for line in answer.iter_lines():
                    yield json.loads(line)["object"]

    def create(self, manifest: Manifest, namespace: str | None = None, *, dry_run: bool = False) -> Manifest:
        """Creates an object, as strict about unknown fields as kubectl is."""
        params = {"fieldValidation": "Strict", **({"dryRun": "All"} if dry_run else {})}
        return self._call("POST", _kind(manifest).path(namespace), params=params, json=manifest)

    def apply(self, manifest: Manifest, namespace: str | None = None, *, manager: str = "a-test") -> Manifest:
        """Server-side apply, forced."""
        return self._patch(
            _kind(manifest).path(namespace, manifest["metadata"]["name"]),
            manifest,
            "application/apply-patch+yaml",
            {"fieldManager": manager, "force": "true"},
        )

    def merge(
        self, kind: Kind, namespace: str | None, name: str, change: Manifest, *, subresource: str | None = None
    ) -> Manifest:
        return self._patch(kind.path(namespace, name, subresource), change, "application/merge-patch+json", {})

    def delete(self, kind: Kind, namespace: str | None, name: str, *, grace: int | None = None) -> None:
        """Deletes an object; one that is gone already is fine."""
        options = {"propagationPolicy": "Background", **({} if grace is None else {"gracePeriodSeconds": grace})}
        try:
            self._call("DELETE", kind.path(namespace, name), json=options)
        except Refused as refused:
            if refused.code != 404:
                raise

    def delete_all(self, kind: Kind, namespace: str) -> None:
        """Deletes everything of a kind in a namespace."""
        self._call("DELETE", kind.path(namespace))

    def post(self, path: str, manifest: Manifest) -> Manifest:
        """Posts to a path of its own, such as an eviction."""
        return self._call("POST", path, json=manifest)

    def close(self) -> None:
        self._http.close()

    def _patch(self, path: str, body: Manifest, content_type: str, params: dict[str, str]) -> Manifest:
        return self._call("PATCH", path, params=params, json=body, headers={"Content-Type": content_type})

    def _call(self, method: str, path: str, **request: Any) -> Manifest:
        answer = self._http.request(method, path, **request)
        if answer.is_success:
            return answer.json()
        try:
            raise Refused(answer.json())
        except ValueError:
            raise Refused({"code": answer.status_code, "message": answer.text}) from None


def eventually(probe: Callable[[], Any], what: str, seconds: float = 30.0, every: float = 0.1) -> Any:
    """Returns what the probe finds in the end: the first thing that is true. Raises AssertionError when time is up."""
    deadline = time.monotonic() + seconds
    while True:
        if found := probe():
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s: {what}")
        time.sleep(every)


def _kind(manifest: Manifest) -> Kind:
    return _KNOWN[manifest["kind"]]


def tls_of(cluster: Manifest, user: Manifest) -> ssl.SSLContext:
    """Returns the way of a kubeconfig's cluster and user to know each other."""
    context = ssl.create_default_context(cadata=base64.b64decode(cluster["certificate-authority-data"]).decode())
    with tempfile.NamedTemporaryFile(suffix=".pem") as both:
        # The ssl module reads a certificate and its key from a file alone.
        both.write(base64.b64decode(user["client-certificate-data"]) + base64.b64decode(user["client-key-data"]))
        both.flush()
        context.load_cert_chain(both.name)
    return context
