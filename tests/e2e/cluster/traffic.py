"""A client pod that asks an endpoint through its Service while a test does something to the cluster."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.e2e.cluster.kube import Document, Kube, wait

LONGEST_SECONDS = 1500
_SCRIPT = Path(__file__).with_name("client.py")


@dataclass
class Report:
    asked: dict[str, int] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)
    answers: dict[str, list[float]] = field(default_factory=dict)


@contextmanager
def traffic(kube: Kube, endpoint: str, port: int, image: str) -> Iterator[Report]:
    """Asks while the body runs; the report is filled in at its end."""
    name, report = f"client-of-{endpoint}", Report()
    kube.run("delete", "pod,configmap", name, "--ignore-not-found", "--wait")
    script = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name},
        "data": {"client.py": _SCRIPT.read_text()},
    }
    kube.apply(script, _pod(name, endpoint, port, image))
    running = lambda: kube.status("pod", name).get("phase") == "Running"  # noqa: E731
    wait(running, f"the pod {name} to run", 60, lambda: kube.run("describe", "pod", name))
    try:
        yield report
    finally:
        # Only its process is told: a deleted pod would take its log with it.
        kube.run("exec", name, "--", "/bin/sh", "-c", "kill -TERM $(cat /tmp/client.pid)")
        ended = lambda: kube.status("pod", name).get("phase") in ("Succeeded", "Failed")  # noqa: E731
        wait(ended, f"the pod {name} to end", 180)
        last = kube.run("logs", name).strip().splitlines()[-1]
        report.__dict__.update(json.loads(last))


def _pod(name: str, endpoint: str, port: int, image: str) -> Document:
    command = ["python3", "/client/client.py", endpoint, str(port), str(LONGEST_SECONDS)]
    security = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
    container = {
        "name": "client",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": command,
        "securityContext": security,
        "volumeMounts": [{"name": "script", "mountPath": "/client"}, {"name": "tmp", "mountPath": "/tmp"}],
    }
    spec = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "securityContext": {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
        "volumes": [{"name": "script", "configMap": {"name": name}}, {"name": "tmp", "emptyDir": {}}],
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}
