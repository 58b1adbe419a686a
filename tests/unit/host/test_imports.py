"""Python looks for garbage rarely while libraries are imported, and as before afterwards."""

from __future__ import annotations

import gc

import pytest

from slipway_host import imports


def test_the_newest_objects_are_looked_through_rarely_while_something_is_imported() -> None:
    before = gc.get_threshold()
    with imports.of_libraries():
        assert gc.isenabled() == (before[0] > 0)
        assert gc.get_threshold()[0] > 100 * before[0]
    assert gc.get_threshold() == before


def test_all_is_as_before_when_an_import_fails_and_when_one_stands_in_another() -> None:
    before = gc.get_threshold()
    with pytest.raises(ImportError), imports.of_libraries(), imports.of_libraries():
        raise ImportError("no such library")
    assert gc.get_threshold() == before
