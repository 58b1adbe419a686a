"""What is asked before anything is fetched."""

from __future__ import annotations

import shutil
from collections import namedtuple
from collections.abc import Mapping
from pathlib import Path

import pytest
from tests.unit.fetching.requesters import OF_A_FIELD

from slipway_fetching import stored_object
from slipway_fetching.errors import NoRoom
from slipway_fetching.stored_object import StoredObject


class Large:
    """A store of objects of 2 GB, of which a folder has those that are files there."""

    def folder(self) -> dict[str, StoredObject]:
        return {name: StoredObject(name, 2_000_000_000, None, "1") for name in ("a", "b")}

    def lacking(self, wanted: Mapping[str, StoredObject], folder: Path) -> list[StoredObject]:
        return [one for name, one in wanted.items() if not (folder / name).exists()]

    def bring(self, wanted: Mapping[str, StoredObject], folder: Path) -> None:
        for name in wanted:
            (folder / name).touch()


def test_what_is_lacking_must_have_room_before_it_is_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: namedtuple("Usage", "total used free")(9, 0, 3_000_000_000))
    store, said = Large(), list[str]()

    def fetch() -> None:
        stored_object.fetch(
            store,
            store.folder(),
            tmp_path,
            disk=tmp_path,
            what="the data of x",
            uri="s3://b/x",
            requester=OF_A_FIELD,
            say=said.append,
        )

    with pytest.raises(NoRoom) as raised:
        fetch()
    expected = f"{tmp_path}: the data of x takes 4.0 GB and 3.0 GB are free. {OF_A_FIELD.more_room}"
    assert (str(raised.value), said, list(tmp_path.iterdir())) == (expected, [], [])
    (tmp_path / "a").touch()
    fetch()
    assert said == ["fetching 1 file(s), 2000.0 MB, of s3://b/x"]


def test_what_an_earlier_fetch_has_begun_has_its_room_already(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: namedtuple("Usage", "total used free")(9, 0, 3_000_000_000))
    with (tmp_path / f"a.0123{stored_object.PART}").open("wb") as part:
        part.truncate(1_500_000_000)
    store = Large()
    stored_object.fetch(
        store,
        store.folder(),
        tmp_path,
        disk=tmp_path,
        what="the data of x",
        uri="s3://b/x",
        requester=OF_A_FIELD,
        say=lambda _: None,
    )
    assert store.lacking(store.folder(), tmp_path) == []
