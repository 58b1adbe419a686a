"""Typed looks into the API server's untyped JSON: what is absent or null is empty."""

from __future__ import annotations

from typing import Any, Literal, cast

Manifest = dict[str, Any]
Version = tuple[str, str]
"""uid and resourceVersion: no other object and no other content of this one has both."""


def at(manifest: Manifest | None, *path: str) -> Manifest:
    """Returns the object at a path of field names; an empty one where there is none."""
    found: Any = manifest
    for name in path:
        found = cast(Manifest, found).get(name) if isinstance(found, dict) else None
    return cast(Manifest, found) if isinstance(found, dict) else {}


def items(manifest: Manifest | None, *path: str) -> list[Manifest]:
    """Returns the list of objects at a path; an empty one where there is none."""
    found: Any = at(manifest, *path[:-1]).get(path[-1])
    return cast(list[Manifest], found) if isinstance(found, list) else []


def version(manifest: Manifest) -> Version:
    return manifest["metadata"]["uid"], manifest["metadata"]["resourceVersion"]


def labels(manifest: Manifest) -> dict[str, str]:
    return at(manifest, "metadata", "labels")


def notes(manifest: Manifest) -> dict[str, str]:
    return at(manifest, "metadata", "annotations")


def job_end(job: Manifest | None) -> Literal["Complete", "Failed"] | None:
    """Returns how a Job ended, once all of its pods have; None while it goes on."""
    if condition(job, "Complete"):
        return "Complete"
    return "Failed" if condition(job, "Failed") else None


def condition(manifest: Manifest | None, type_: str, status: str = "True") -> Manifest | None:
    """Returns the condition of that type when it has that status."""
    for found in items(manifest, "status", "conditions"):
        if found.get("type") == type_ and found.get("status") == status:
            return found
    return None
