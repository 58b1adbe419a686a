"""Prometheus' discovery in Kubernetes, of which Debian's build has none: the same targets with the same labels, in
files that Prometheus reads again when they change.
"""

from __future__ import annotations

import json
import os
import re
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from tests.e2e.cluster.monitors import ApiServer

Document = dict[str, Any]
_SECONDS = 0.5
"""Between two looks."""
_META = "__meta_kubernetes"


def pod_targets(pods: Iterable[Document]) -> list[Document]:
    """Returns a target for each declared port of each pod that has an address (role pod)."""
    return [
        _target(pod["status"]["podIP"], port["containerPort"], _of_pod(pod), pod_container_port_name=port.get("name"))
        for pod in pods
        if pod["status"].get("podIP")
        for container in pod["spec"]["containers"]
        for port in container.get("ports", [])
    ]


def slice_targets(slices: Iterable[Document], services: Iterable[Document], pods: Iterable[Document]) -> list[Document]:
    """Returns a target for each port of each address behind a Service (role endpointslice)."""
    service_of = {_key(service): service for service in services}
    pod_of = {_key(pod): pod for pod in pods}
    found = []
    for own in slices:
        namespace = own["metadata"]["namespace"]
        service = service_of.get((namespace, own["metadata"].get("labels", {}).get("kubernetes.io/service-name")))
        for endpoint in own.get("endpoints") or []:
            pod = pod_of.get((namespace, endpoint.get("targetRef", {}).get("name")))
            if service is None or pod is None:
                continue
            labels = {**_of_pod(pod), **_labels("service", service)}
            for port in own.get("ports") or []:
                name = {"endpointslice_port_name": port.get("name")}
                found += [_target(address, port["port"], labels, **name) for address in endpoint["addresses"]]
    return found


def _key(manifest: Document) -> tuple[str, str]:
    return manifest["metadata"]["namespace"], manifest["metadata"]["name"]


def _of_pod(pod: Document) -> dict[str, str]:
    metadata = pod["metadata"]
    own = {"namespace": metadata["namespace"], "pod_name": metadata["name"], "pod_phase": pod["status"]["phase"]}
    return {**{f"{_META}_{name}": value for name, value in own.items()}, **_labels("pod", pod)}


def _labels(of: str, manifest: Document) -> dict[str, str]:
    labels = manifest["metadata"].get("labels", {})
    return {f"{_META}_{of}_label_{re.sub(r'[^a-zA-Z0-9_]', '_', name)}": value for name, value in labels.items()}


def _target(address: str, port: int, labels: dict[str, str], **more: str | None) -> Document:
    meta = {f"{_META}_{name}": value or "" for name, value in more.items()}
    return {"targets": [f"{address}:{port}"], "labels": {**labels, **meta}}


@contextmanager
def kept(server: ApiServer, folder: Path) -> Iterator[None]:
    """Keeps the files of all roles in the folder as the cluster is. Fails when the API server no longer told it."""
    context = ssl.create_default_context(cafile=str(server.ca))
    context.load_cert_chain(server.certificate, server.key)
    stop = threading.Event()
    # A restart of the API server is a part of some tests' day.
    transport = httpx.HTTPTransport(verify=context, retries=5)
    with httpx.Client(base_url=f"https://{server.address}", transport=transport, trust_env=False) as client:
        look = _look(client, folder)
        look()
        thread = threading.Thread(target=_repeat, args=(look, stop), name="discovery")
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()


def _repeat(look: Callable[[], None], stop: threading.Event) -> None:
    while not stop.wait(_SECONDS):
        look()


def _look(client: httpx.Client, folder: Path) -> Callable[[], None]:
    def items(path: str) -> list[Document]:
        return client.get(path).raise_for_status().json()["items"]

    def look() -> None:
        pods, services = items("/api/v1/pods"), items("/api/v1/services")
        slices = items("/apis/discovery.k8s.io/v1/endpointslices")
        _write(folder / "pod.json", pod_targets(pods))
        _write(folder / "endpointslice.json", slice_targets(slices, services, pods))

    return look


def _write(file: Path, targets: list[Document]) -> None:
    text = json.dumps(targets)
    if file.exists() and file.read_text() == text:
        return
    new = file.with_suffix(".new")
    new.write_text(text)
    os.replace(new, file)
