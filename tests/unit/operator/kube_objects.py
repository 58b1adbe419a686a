"""Jobs and pods as the API server shows them: only what the operator reads."""

from __future__ import annotations

import json
from typing import Any

from slipway_operator import names

RUN, UID = "demo", "0b5e1a52-7f0e-4f6e-9d56-0b6a1c7f3c11"
NAMESPACE = "team"
CREATED = "2026-01-01T12:00:00Z"
Manifest = dict[str, Any]


def a_job(
    step: str = "learn", attempt: int = 1, *, ended: str | None = None, suspend: bool = False, **metadata: Any
) -> Manifest:
    conditions = [{"type": ended, "status": "True", "reason": "R", "message": f"the Job is {ended}"}] if ended else []
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": names.job(RUN, step, attempt),
            "namespace": NAMESPACE,
            "uid": f"job-{step}-{attempt}",
            "creationTimestamp": CREATED,
            "labels": names.step_labels(RUN, UID, step, attempt),
            **metadata,
        },
        "spec": {"suspend": suspend},
        "status": {"conditions": conditions},
    }


def a_pod(
    step: str = "learn",
    attempt: int = 1,
    *,
    index: int = 0,
    phase: str = "Running",
    exit_code: int | None = None,
    reason: str | None = None,
    message: str | Manifest = "",
    deleted: str | None = None,
    conditions: list[Manifest] | None = None,
    waiting: Manifest | None = None,
    status_reason: str | None = None,
) -> Manifest:
    """A pod of an attempt; with an exit code it has ended."""
    state: Manifest = {}
    if exit_code is not None:
        phase = "Succeeded" if exit_code == 0 else "Failed"
        text = message if isinstance(message, str) else json.dumps(message)
        state = {"terminated": {"exitCode": exit_code, "message": text, "finishedAt": "2026-01-01T12:05:00Z"}}
        state["terminated"] |= {"reason": reason} if reason else {}
    if waiting is not None:
        phase, state = "Pending", {"waiting": waiting}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"{names.job(RUN, step, attempt)}-{index}-abcde",
            "namespace": NAMESPACE,
            "uid": f"pod-{step}-{attempt}-{index}",
            "creationTimestamp": CREATED,
            "labels": names.step_labels(RUN, UID, step, attempt),
            "annotations": {"batch.kubernetes.io/job-completion-index": str(index)},
            **({"deletionTimestamp": deleted} if deleted else {}),
        },
        "spec": {
            "nodeName": "node-1",
            "containers": [{"name": "trainer", "resources": {"limits": {"nvidia.com/gpu": 8}}}],
        },
        "status": {
            "phase": phase,
            "conditions": conditions or [],
            "containerStatuses": [{"name": "trainer", "image": "slipway-train:dev", "state": state}] if state else [],
            **({"reason": status_reason} if status_reason else {}),
        },
    }


def a_result(step: str = "learn", attempt: int = 1, **fields: Any) -> Manifest:
    return {"step": step, "attempt": attempt, **fields}
