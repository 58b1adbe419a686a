"""What a chart may give to pods, for the tests of the builders."""

from __future__ import annotations

from typing import Any

TEMPLATE: dict[str, Any] = {
    "serviceAccountName": "trainers",
    "runtimeClassName": "nvidia",
    "affinity": {"podAntiAffinity": {}},
    "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "rack", "whenUnsatisfiable": "DoNotSchedule"}],
    "env": [
        {"name": "HTTPS_PROXY", "value": "http://proxy:3128"},
        {"name": "HOME", "value": "/root"},
        {"name": "AWS_ENDPOINT_URL", "value": "http://elsewhere"},
    ],
    "volumes": [{"name": "ca", "configMap": {"name": "company-ca"}}],
    "volumeMounts": [{"name": "ca", "mountPath": "/etc/pki/company", "readOnly": True}],
}
DEFAULTS: dict[str, Any] = {
    "nodeSelector": {"pool": "gpu"},
    "tolerations": [{"key": "gpu", "operator": "Exists"}],
    "priorityClassName": "batch",
    "podLabels": {"cost-center": "research"},
    "podAnnotations": {"prometheus.io/scrape": "true"},
    "podTemplates": {"company": TEMPLATE},
}
OWN: dict[str, Any] = {
    "nodeSelector": {"pool": "own"},
    "tolerations": [],
    "priorityClassName": "low",
    "podLabels": {"team": "a"},
    "podAnnotations": {},
}
