"""The chart as Helm renders it."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

ROOT = Path(__file__).parents[3]
CHART = ROOT / "charts" / "slipway"
CASES = sorted((CHART / "ci").glob("*.yaml"))
NAMESPACE = "slipway-system"

Manifest = dict[str, Any]


def yaml(text: str) -> list[Any]:
    return [document for document in YAML(typ="safe", pure=True).load_all(text) if document]


@dataclass(frozen=True)
class Rendered:
    manifests: list[Manifest]

    def all(self, kind: str) -> list[Manifest]:
        return [manifest for manifest in self.manifests if manifest["kind"] == kind]

    def one(self, kind: str, name: str, namespace: str | None = NAMESPACE) -> Manifest:
        found = [
            manifest
            for manifest in self.all(kind)
            if (manifest["metadata"]["name"], manifest["metadata"].get("namespace")) == (name, namespace)
        ]
        assert len(found) == 1, f"{len(found)} of {kind} {namespace}/{name}"
        return found[0]


@dataclass(frozen=True)
class Helm:
    binary: str

    def run(self, *arguments: str | Path, values: Manifest | None = None) -> subprocess.CompletedProcess[str]:
        # JSON is YAML; the values come last, so they win over those of files.
        return subprocess.run(
            [self.binary, *map(str, arguments), *(["--values", "-"] if values is not None else [])],
            input=json.dumps(values or {}),
            capture_output=True,
            text=True,
        )

    def render(self, values: Manifest | None = None, *files: Path, namespace: str = NAMESPACE) -> Rendered:
        arguments = [part for file in files for part in ("--values", file)]
        done = self.run("template", "slipway", CHART, "--namespace", namespace, *arguments, values=values or {})
        assert done.returncode == 0, done.stderr
        return Rendered(yaml(done.stdout))

    def refusal(self, values: Manifest) -> str:
        """What Helm says to values that it does not take."""
        done = self.run("template", "slipway", CHART, "--namespace", NAMESPACE, values=values)
        assert done.returncode != 0, "Helm took these values"
        return done.stderr
