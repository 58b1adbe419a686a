"""A namespace of a test's own, as strict as a cluster of a company has them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tests.e2e.cluster.kube import Kube

_RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}
GONE_SECONDS = 180
"""What a namespace takes to go at the most: its servers drain, and its claims go after the last pod that has them."""


@contextmanager
def namespace(name: str, program: str) -> Iterator[Kube]:
    """Makes it anew. Afterwards it goes with all that is in it, while the next test begins."""
    there = Kube(name, program)
    delete = ("delete", "namespace", name, "--ignore-not-found")
    there.run(*delete, "--wait", seconds=GONE_SECONDS)
    there.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": _RESTRICTED}})
    try:
        yield there
    finally:
        there.run(*delete, "--wait=false")
