"""Files of a run's workspace, read in a short-lived pod: nobody executes anything in a pod that trains or judges."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path

from slipway.cluster import client_settings
from slipway.cluster.kubectl import Kubectl
from slipway.cluster.pods import helper_pod
from slipway.cluster.pods.helper_pod import HelperPod
from slipway_core.protocol.workspace import WORKSPACE_MOUNT, Workspace, claim_of, folder_of
from slipway_core.resources import labels
from slipway_core.resources.training_run import TrainingRun

_LIFETIME = 300
"""Seconds."""
_SCRIPT = """\
cd "$1" 2>/dev/null || exit 0
shift
for file; do shift; [ -f "$file" ] && set -- "$@" "$file"; done
[ $# -gt 0 ] || exit 0
tar -cf - "$@"
[ $? -le 1 ]
"""
"""Writes those of the files that exist as an archive. tar ends with 1 when a file grew while it was read."""


def workspace_of(run: TrainingRun) -> Workspace:
    """Returns the workspace as a pod sees it."""
    return Workspace(Path(WORKSPACE_MOUNT, folder_of(run)))


def read(kubectl: Kubectl, run: TrainingRun, paths: Sequence[Path], say: Callable[[str], None]) -> dict[Path, bytes]:
    """Returns the content of those of the files that there are.

    Args:
        paths: as `workspace_of` names them.
        say: hears why it takes longer.
    """
    root = workspace_of(run).root
    names = [str(path.relative_to(root)) for path in paths]
    found = read_claim(kubectl, claim_of(run.spec.storage), root, names, say, lambda: _image_of(kubectl, run))
    return {root / name: content for name, content in found.items()}


def read_claim(
    kubectl: Kubectl,
    claim: str,
    root: Path,
    names: Sequence[str],
    say: Callable[[str], None],
    image: Callable[[], str | None] = lambda: None,
) -> dict[str, bytes]:
    """Returns the content of those of the files that there are in a folder of a claim, by their names below it.

    Args:
        root: the folder as a pod sees it.
        say: hears why it takes longer.
        image: returns the image to read with; the chart's when that is None.
    """
    return unpack(_archive(kubectl, claim, root, names, say, image))


def _archive(
    kubectl: Kubectl,
    claim: str,
    root: Path,
    names: Sequence[str],
    say: Callable[[str], None],
    image: Callable[[], str | None],
) -> bytes:
    script = ["--", "sh", "-c", _SCRIPT, "sh", str(root), *names]
    if not _exists(kubectl, claim):
        return b""
    settings = client_settings.read(kubectl, image())
    reader = HelperPod("read", claim, writes=None, lifetime=_LIFETIME)
    with helper_pod.running(kubectl, reader, settings, say) as pod:
        return kubectl.run("exec", pod, "--container", helper_pod.CONTAINER, *script, timeout="0")


def plan_of(kubectl: Kubectl, run: TrainingRun) -> bytes | None:
    """Returns a run's plan.json, which on a cluster lies in a ConfigMap, not in the folder; None where there is none.

    Raises ClusterError.
    """
    for config in kubectl.list("configmaps", labels={labels.RUN_UID: run.metadata.uid or "", labels.ROLE: "plan"}):
        return config.get("data", {}).get("plan.json", "{}").encode()
    return None


def _image_of(kubectl: Kubectl, run: TrainingRun) -> str | None:
    """Returns the train image that the run's plan pins: nodes have it already."""
    plan = plan_of(kubectl, run)
    return json.loads(plan).get("images", {}).get("train") or None if plan is not None else None


def _exists(kubectl: Kubectl, claim: str) -> bool:
    return bool(kubectl.run("get", "persistentvolumeclaim", claim, "--ignore-not-found", "-o", "name").strip())


def unpack(archive: bytes) -> dict[str, bytes]:
    """Returns the files of a tar archive by their names; an empty one has none."""
    if not archive:
        return {}
    contents: dict[str, bytes] = {}
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        for member in tar:
            file = tar.extractfile(member) if member.isfile() else None
            if file is not None:
                contents[member.name] = file.read()
    return contents
