"""The file that the chart writes is the one that the operator reads, and values reach all of it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from tests.unit.chart.rendering import CASES, NAMESPACE, Helm, Rendered
from tests.unit.core.statements import KEY, OTHER_KEY

from slipway_operator import settings
from slipway_operator.settings import Settings

DIGEST = "sha256:" + "5" * 64
RESOURCES = {"requests": {"cpu": "3"}, "limits": {"memory": "7Gi", "nvidia.com/gpu": 2}}
PODS = {
    "nodeSelector": {"pool": "gpu"},
    "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
    "priorityClassName": "batch",
    "podLabels": {"cost-center": "research"},
    "podAnnotations": {"prometheus.io/scrape": "true"},
    "podTemplates": {
        "fast": {
            "serviceAccountName": "trainers",
            "runtimeClassName": "nvidia",
            "affinity": {"podAntiAffinity": {}},
            "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "rack", "whenUnsatisfiable": "DoNotSchedule"}],
            "env": [{"name": "NCCL_DEBUG", "value": "INFO"}],
            "volumes": [{"name": "ca", "configMap": {"name": "ca"}}],
            "volumeMounts": [{"name": "ca", "mountPath": "/etc/pki/company", "readOnly": True}],
        }
    },
}
OTHER = {
    "images": {
        "registry": "registry.example.com/slipway",
        "train": {"repository": "train", "tag": "1.2.3"},
        "serve": {"digest": DIGEST, "tag": "ignored"},
        "pullPolicy": "Always",
        "pullSecrets": ["one", "two"],
    },
    "watchNamespaces": ["team-a"],
    "networkPolicy": {"metricsFrom": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}}]},
    "defaults": {
        "workspace": {"storageClass": "shared", "size": "1Ti", "accessModes": ["ReadWriteMany"]},
        "training": {
            "accelerator": "nvidia.com/gpu",
            "resources": RESOURCES,
            "grace": "5m",
            "sharedMemory": "16Gi",
            "examples": "/examples",
            **PODS,
        },
        "serving": {"accelerator": "amd.com/gpu", "resources": RESOURCES, "device": "cuda", "linger": "9s", **PODS},
    },
    "retention": {"grace": "36h", "cleanupJobs": 9},
    "trustedKeys": [
        {"id": KEY.public.id, "key": KEY.public.text, "notAfter": "2026-11-29T04:30:00Z"},
        {"id": "theirs", "key": OTHER_KEY.public.text, "revoked": True},
    ],
    "operator": {
        "replicas": 1,
        "leaderElection": {"durationSeconds": 30, "renewSeconds": 7.5},
        "port": 9090,
        "client": {"qps": 20.5, "burst": 40, "workers": 4},
        "limits": {"runs": 7, "endpoints": 3, "memory": "9Mi"},
        "podUrl": "http://127.0.0.1:1/{namespace}/{pod}/{port}",
        "resync": "1h30m",
        "progressSeconds": 30,
        "nodeLostSeconds": 90,
        "backoff": "1s",
        "longestBackoff": "2s",
        "giveWayAfter": "3s",
    },
}


def loaded(chart: Rendered, folder: Path, namespace: str = NAMESPACE) -> Settings:
    path = folder / "config.yaml"
    path.write_text(chart.one("ConfigMap", "slipway-operator", namespace)["data"]["config.yaml"])
    return settings.load(path)


def leaves(model: BaseModel, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name in type(model).model_fields:
        value = getattr(model, name)
        if isinstance(value, BaseModel):
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def test_the_charts_defaults_are_the_operators_own(helm: Helm, tmp_path: Path) -> None:
    images = {"train": {"tag": "dev"}, "serve": {"tag": "dev"}}
    # What no chart says the operator does not believe: that somebody guards approvals.
    assert loaded(helm.render({"images": images}), tmp_path) == Settings(admission_policies=True)
    without = {"images": images, "admissionPolicies": {"enabled": False}}
    assert loaded(helm.render(without), tmp_path) == Settings()


def test_every_setting_is_reached_through_values(helm: Helm, tmp_path: Path) -> None:
    default, other = dict(leaves(Settings())), dict(leaves(loaded(helm.render(OTHER), tmp_path)))
    out_of_reach = [name for name in default if default[name] == other[name]]
    own = ["lease.name", "lease.namespace", "signing.secret", "signing.keys", "signing.namespace"]
    assert out_of_reach == own, "the release's own"
    assert other["images.train"] == "registry.example.com/slipway/train:1.2.3"
    assert other["images.serve"] == f"registry.example.com/slipway/slipway-serve@{DIGEST}"
    assert other["training.resources.limits"] == RESOURCES["limits"]
    assert other["client.qps"] == 20.5
    retired, revoked = other["trusted_keys"]
    assert (retired.key, retired.not_after, revoked.id, revoked.revoked) == (
        KEY.public.text,
        "2026-11-29T04:30:00Z",
        "theirs",
        True,
    )


def test_the_lease_is_the_releases_own_and_no_value_moves_it(helm: Helm, tmp_path: Path) -> None:
    moved = loaded(helm.render(namespace="elsewhere"), tmp_path, "elsewhere")
    assert (moved.lease.namespace, moved.signing.namespace) == ("elsewhere", "elsewhere")
    renamed = helm.render({"fullnameOverride": "other"}).one("ConfigMap", "other-operator")
    assert "  name: slipway-operator\n" in renamed["data"]["config.yaml"]
    assert "  secret: slipway-operator-signing-key\n" in renamed["data"]["config.yaml"]


def test_an_image_without_a_tag_has_the_charts_version(helm: Helm, tmp_path: Path) -> None:
    assert loaded(helm.render(), tmp_path).images.train == "slipway-train:0.1.0"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_the_file_of_each_case_loads(helm: Helm, case: Path, tmp_path: Path) -> None:
    assert loaded(helm.render({"fullnameOverride": "slipway"}, case), tmp_path).images.train


def test_a_changed_setting_restarts_the_operator(helm: Helm) -> None:
    def checksum(values: dict[str, Any]) -> str:
        pod = helm.render(values).one("Deployment", "slipway-operator")["spec"]["template"]
        return pod["metadata"]["annotations"]["checksum/config"]

    assert checksum({}) == checksum({"monitoring": {"dashboard": {"enabled": True}}})
    assert checksum({}) != checksum({"defaults": {"training": {"grace": "61s"}}})
