"""The chart as Helm renders it."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import pytest
import yaml
from tests import programs

ROOT = Path(__file__).parents[3]
CHART = ROOT / "charts" / "slipway"
CASES = sorted((CHART / "ci").glob("*.yaml"))
NAMESPACE = "slipway-system"

Manifest = dict[str, Any]


def documents(text: str) -> list[Any]:
    """Returns what an API server would be given: of a List what is in it."""
    # Ten times as fast as a loader in Python, which takes a second for the CRDs.
    found = [document for document in yaml.load_all(text, Loader=yaml.CSafeLoader) if document]
    return [one for document in found for one in (document["items"] if document.get("kind") == "List" else [document])]


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

    @classmethod
    def of_the_cache(cls) -> Self:
        """Builds it when it is missing; skips the test, with the reason, where Go cannot be had."""
        try:
            programs.build("helm")
        except subprocess.CalledProcessError as error:
            pytest.skip(f"Helm cannot be built here: {error.stderr.strip().splitlines()[-1]}")
        return cls(programs.program("helm"))

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
        return Rendered(documents(done.stdout))

    def refusal(self, values: Manifest) -> str:
        """What Helm says to values that it does not take."""
        done = self.run("template", "slipway", CHART, "--namespace", NAMESPACE, values=values)
        assert done.returncode != 0, "Helm took these values"
        return done.stderr
