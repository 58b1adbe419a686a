import errno
import os
from pathlib import Path

import pytest

from slipway_host import files
from slipway_host.files import is_full, write_atomically


def test_a_file_is_replaced_whole_and_nothing_is_left_beside_it(tmp_path: Path):
    path = tmp_path / "status.json"
    write_atomically(path, "old")
    write_atomically(path, "new, 诗")
    assert path.read_text(encoding="utf-8") == "new, 诗"
    assert [entry.name for entry in tmp_path.iterdir()] == ["status.json"]


def test_what_cannot_be_written_leaves_the_old_one_and_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "status.json"
    write_atomically(path, "old")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match=r"status\.json") as caught:
        write_atomically(path, "new")
    assert is_full(caught.value)
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["status.json"]


def test_a_file_has_the_mode_that_the_user_gives_new_files(tmp_path: Path):
    before = os.umask(0o022)
    try:
        write_atomically(tmp_path / "a", "")
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o644


def test_a_quota_is_a_full_disk_too_and_a_missing_right_is_none():
    assert is_full(OSError(errno.EDQUOT, ""))
    assert not is_full(PermissionError(errno.EACCES, ""))
