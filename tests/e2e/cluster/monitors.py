"""What the Prometheus operator makes of ServiceMonitors and PodMonitors, for a Prometheus that runs outside of the
cluster and reaches its pods through the API server. Pure.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Document = dict[str, Any]

_ADDRESS = "__address__"


@dataclass(frozen=True)
class ApiServer:
    address: str
    """host:port."""
    ca: Path
    certificate: Path
    key: Path

    @property
    def tls(self) -> Document:
        return {"ca_file": str(self.ca), "cert_file": str(self.certificate), "key_file": str(self.key)}


def configuration(
    monitors: list[Document], server: ApiServer, discovered: Path, rules: Path, interval: str
) -> Document:
    """Returns prometheus.yml.

    Args:
        monitors: manifests of ServiceMonitors and PodMonitors; their own intervals are for clusters, not for tests.
        server: whose pods are scraped.
        discovered: folder with the targets of each role, as Prometheus discovers them in Kubernetes.
        rules: file with the groups of a PrometheusRule.
        interval: between two scrapes, and between two evaluations of the rules.
    """
    return {
        "global": {"scrape_interval": interval, "scrape_timeout": interval, "evaluation_interval": interval},
        "rule_files": [str(rules)],
        "scrape_configs": [
            _scrape_config(monitor, index, endpoint, server, discovered)
            for monitor in monitors
            for index, endpoint in enumerate(_endpoints(monitor))
        ],
    }


def _endpoints(monitor: Document) -> list[Document]:
    return monitor["spec"]["endpoints" if monitor["kind"] == "ServiceMonitor" else "podMetricsEndpoints"]


def _scrape_config(monitor: Document, index: int, endpoint: Document, server: ApiServer, discovered: Path) -> Document:
    metadata, spec = monitor["metadata"], monitor["spec"]
    of_service = monitor["kind"] == "ServiceMonitor"
    role, selected, port = (
        ("endpointslice", "service", "endpointslice_port") if of_service else ("pod", "pod", "pod_container_port")
    )
    return {
        "job_name": f"{monitor['kind']}/{metadata['namespace']}/{metadata['name']}/{index}",
        "scheme": "https",
        "tls_config": server.tls,
        "metrics_path": endpoint["path"],
        "file_sd_configs": [{"files": [str(discovered / f"{role}.json")]}],
        "relabel_configs": [
            *_in_namespaces(spec.get("namespaceSelector", {"matchNames": [metadata["namespace"]]})),
            *(_keep(_label(selected, name), value) for name, value in spec["selector"]["matchLabels"].items()),
            _keep(f"__meta_kubernetes_{port}_name", endpoint["port"]),
            {"source_labels": ["__meta_kubernetes_pod_phase"], "regex": "Succeeded|Failed", "action": "drop"},
            _copy("__meta_kubernetes_namespace", "namespace"),
            _copy("__meta_kubernetes_pod_name", "pod"),
            *map(_own_case, endpoint.get("relabelings", [])),
            *_through(server, endpoint["path"]),
        ],
    }


def _label(of: str, name: str) -> str:
    return f"__meta_kubernetes_{of}_label_{re.sub(r'[^a-zA-Z0-9_]', '_', name)}"


def _in_namespaces(selector: Document) -> list[Document]:
    if selector.get("any"):
        return []
    names = "|".join(map(re.escape, selector["matchNames"]))
    return [{"source_labels": ["__meta_kubernetes_namespace"], "regex": names, "action": "keep"}]


def _keep(source: str, value: str) -> Document:
    return {"source_labels": [source], "regex": re.escape(value), "action": "keep"}


def _copy(source: str, target: str) -> Document:
    return {"source_labels": [source], "target_label": target}


def _own_case(relabeling: Document) -> Document:
    """A relabeling as Prometheus spells it: source_labels for sourceLabels."""
    return {re.sub(r"[A-Z]", lambda letter: f"_{letter[0].lower()}", name): value for name, value in relabeling.items()}


def _through(server: ApiServer, path: str) -> list[Document]:
    """Sends a scrape to the API server, which has a way to every pod; this machine need not have one."""
    pod = ["__meta_kubernetes_namespace", "__meta_kubernetes_pod_name", _ADDRESS]
    way = f"/api/v1/namespaces/$1/pods/$2:$3/proxy{path}"
    return [
        _copy(_ADDRESS, "instance"),
        {"source_labels": pod, "regex": r"(.+);(.+);.+:(\d+)", "target_label": "__metrics_path__", "replacement": way},
        {"target_label": _ADDRESS, "replacement": server.address},
    ]
