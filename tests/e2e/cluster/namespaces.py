"""A namespace of a test's own, as strict as a cluster of a company has them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tests.e2e.cluster.kube import Kube

_RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}
DRAIN_SECONDS = 180
"""What a deletion takes at the most: a server drains, and the claim goes after the last pod that has it."""


@contextmanager
def namespace(name: str, program: str) -> Iterator[Kube]:
    """Makes it anew, and removes it with all that is in it."""
    there = Kube(name, program)
    _remove(there)
    there.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": _RESTRICTED}})
    try:
        yield there
    finally:
        _remove(there)


def _remove(there: Kube) -> None:
    there.run("delete", "namespace", there.namespace, "--ignore-not-found", "--wait", seconds=DRAIN_SECONDS)
