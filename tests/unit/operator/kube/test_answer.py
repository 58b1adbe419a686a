"""A long list is decoded without a look for garbage among what it becomes."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from slipway_operator.kube.answer import decoded

LIST = {"items": [{"metadata": {"name": str(number), "labels": {}}, "spec": {}} for number in range(20_000)]}


@pytest.fixture
def collections() -> Iterator[list[str]]:
    """What the collector does meanwhile."""
    found: list[str] = []
    note: Callable[[str, dict[str, Any]], None] = lambda phase, info: found.append(phase)  # noqa: E731
    gc.callbacks.append(note)
    yield found
    gc.callbacks.remove(note)


def test_no_garbage_is_looked_for_meanwhile_and_again_afterwards(collections: list[str]):
    content = json.dumps(LIST).encode()
    collections.clear()
    found = decoded(content)
    during = len(collections)
    assert (during, gc.isenabled()) == (0, True)
    assert found == LIST


def test_what_is_no_json_leaves_the_collector_as_it_was():
    with pytest.raises(ValueError, match="Expecting"):
        decoded(b'{"items": [')
    assert gc.isenabled()
    gc.disable()
    try:
        assert decoded(b"[]") == []
        assert not gc.isenabled()
    finally:
        gc.enable()
