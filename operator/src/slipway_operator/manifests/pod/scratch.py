"""Where a process may write although its root file system is read-only."""

from __future__ import annotations

from slipway_core.protocol.variables import QUIET_ENVIRONMENT
from slipway_operator.kube.manifest import Manifest

_CACHES = {
    "HOME": "/tmp",
    "XDG_CACHE_HOME": "/tmp/.cache",
    "HF_HOME": "/tmp/.cache/huggingface",
    "TORCHINDUCTOR_CACHE_DIR": "/tmp/.cache/torchinductor",
    "TRITON_CACHE_DIR": "/tmp/.cache/triton",
}


def variables() -> dict[str, str]:
    """Returns the environment of every process of ours in a pod."""
    return {**QUIET_ENVIRONMENT, **_CACHES}


def volumes(shared_memory: int | str) -> list[Manifest]:
    """`shared_memory` is what the processes of a pod may exchange through /dev/shm; 64 MiB, the default, stop NCCL."""
    return [
        {"name": "tmp", "emptyDir": {}},
        {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": str(shared_memory)}},
    ]


def mounts() -> list[Manifest]:
    return [{"name": "tmp", "mountPath": "/tmp"}, {"name": "shm", "mountPath": "/dev/shm"}]
