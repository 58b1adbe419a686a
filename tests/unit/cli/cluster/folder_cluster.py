"""A cluster that is a folder, see stand_in_kubectl."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path

from slipway.cluster.kubectl import Kubectl, connect

STAND_IN = Path(__file__).with_name("stand_in_kubectl.py")


@dataclass
class FolderCluster:
    root: Path
    kubectl: Kubectl

    @property
    def workspace(self):
        return self.root / "workspace"

    @property
    def objects(self):
        path = self.root / "objects.json"
        return json.loads(path.read_text()) if path.exists() else {}

    def save(self, **objects):
        # In one piece: a watch reads it meanwhile.
        whole = self.root / "objects.json.new"
        whole.write_text(json.dumps({**self.objects, **objects}))
        whole.replace(self.root / "objects.json")

    def refuse(self, start, said):
        """Has every call that starts with these words fail."""
        (self.root / "refuse.json").write_text(json.dumps({start: said}))

    def logs(self, text):
        """Has every pod have this log."""
        (self.root / "log").write_text(text)

    def keep_what_is_deleted(self):
        """Has something hold deleted objects: they are there for a while."""
        (self.root / "kept").touch()

    def calls(self, command):
        lines = (self.root / "calls.jsonl").read_text().splitlines()
        return [call for call in map(json.loads, lines) if command in call]


def make(root, monkeypatch):
    (root / "workspace").mkdir(parents=True)
    binary = root / "kubectl"
    binary.write_text(f'#!/bin/sh\nexec {sys.executable} {STAND_IN} "$@"\n')
    binary.chmod(0o755)
    monkeypatch.setenv("KUBECTL_STATE", str(root))
    monkeypatch.setenv("SLIPWAY_KUBECTL", str(binary))
    return FolderCluster(root, connect())
